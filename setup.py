"""What to install: packages, their lower bounds, and the extras."""

from setuptools import find_packages, setup

# Lower bounds only: what a release of ours runs on next year is not known today. On
# Python 3.11 pip stops at jax 0.10.2 and flax 0.12.8; from 3.12 on it takes the newest.
RUNTIME = [
  "absl-py>=2.1",
  "datasets>=4.0",
  "datasketch>=1.6",
  "flax>=0.12.2",  # earlier ones cannot remat under jax 0.10
  "grain>=0.2.12",
  "huggingface_hub>=1.0",
  "jax>=0.10",
  "jinja2>=3.1",
  "matplotlib>=3.9",
  "ml-collections>=1.0",
  "numpy>=2.0",
  "optax>=0.2.5",
  "orbax-checkpoint>=0.11.25",
  "protobuf>=5.29",
  "pyarrow>=18.0",
  "rapidfuzz>=3.9",
  "safetensors>=0.5",
  "scikit-learn>=1.6",
  "scipy>=1.14",
  "sentencepiece>=0.2",
  "tensorboardX>=2.6.2",
  "tqdm>=4.66",
  "transformers>=5.0",
]

setup(
  name="ssljax",
  version="0.1.0",
  description="Semi-supervised training of safety classifiers in JAX",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=find_packages(include=["ssljax", "ssljax.*"]),
  package_data={
    "ssljax.assets": ["manifest.json"],
    "ssljax.augment": ["**/*.md", "**/*.txt"],
    "ssljax.evals.report": ["templates/*"],
  },
  install_requires=RUNTIME,
  extras_require={
    "cuda12": ["jax[cuda12]"],
    "tpu": ["jax[tpu]"],
    # WordNet, back-translation, LLMs, the language filter
    "augment": ["nltk>=3.9", "openai>=2.0", "py3langid>=0.4"],
    "dev": [
      "nltk>=3.9",
      "py3langid>=0.4",
      "pytest>=8.0",
      "pytest-xdist>=3.7",
      "ruff>=0.14",
    ],
    "llm-test": ["openai>=2.0", "xllamacpp>=2026.10"],  # a real server for the tests
    "marian": ["nltk>=3.9", "py3langid>=0.4", "torch>=2.6"],  # neural back-translation
    # For the tests; to convert pickled weights, torch alone
    "parity": ["sentence-transformers>=5.0", "torch>=2.5"],
    "ray": ["ray[data]>=2.49"],  # augmentation on a cluster
    "tftext": ["tensorflow-text>=2.18"],
  },
)
