"""MarianMT with tiny models of random weights: the code path, not the quality."""

import json
import re
import shutil

import pytest

from ssljax.augment import engines
from ssljax.augment.engine import Source
from ssljax.augment.engines.backtranslation import marian
from ssljax.errors import UserError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = "the a cat dog bread baker sells bakes eats likes good old warm loaf"
PAIRS = ("en-de", "de-en", "en-ro", "roa-en")


@pytest.fixture(scope="module", autouse=True)
def single_thread():
  """Threads slow down models this small, above all on a busy machine."""
  threads = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """A folder for --config.models, with four models of random weights."""
  import sentencepiece

  root = tmp_path_factory.mktemp("models")
  words = WORDS.split(" ")
  corpus = root / "corpus.txt"
  corpus.write_text(
    "\n".join(
      " ".join(words[i % len(words) - k] for k in range(5)) + "." for i in range(200)
    )
  )
  sentencepiece.SentencePieceTrainer.train(
    input=str(corpus), model_prefix=str(root / "sp"), vocab_size=34, minloglevel=2
  )
  pieces = sentencepiece.SentencePieceProcessor(model_file=str(root / "sp.model"))
  names = [pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size())]
  vocabulary = ["</s>", "<unk>", *names, "<pad>"]
  for seed, pair in enumerate(PAIRS):
    folder = root / f"opus-mt-{pair}"
    folder.mkdir()
    for side in ("source", "target"):
      (folder / f"{side}.spm").write_bytes((root / "sp.model").read_bytes())
    (folder / "vocab.json").write_text(
      json.dumps({w: i for i, w in enumerate(vocabulary)})
    )
    (folder / "tokenizer_config.json").write_text(
      json.dumps({"tokenizer_class": "MarianTokenizer", "model_max_length": 512})
    )
    config = transformers.MarianConfig(
      vocab_size=len(vocabulary),
      d_model=16,
      encoder_layers=1,
      decoder_layers=1,
      encoder_attention_heads=2,
      decoder_attention_heads=2,
      encoder_ffn_dim=32,
      decoder_ffn_dim=32,
      max_position_embeddings=512,
      pad_token_id=len(vocabulary) - 1,
      eos_token_id=0,
      decoder_start_token_id=len(vocabulary) - 1,
      forced_eos_token_id=0,
      num_beams=2,
      init_std=0.5,
    )
    torch.manual_seed(seed)
    model = transformers.MarianMTModel(config).eval()
    model.generation_config.max_length = 12
    model.save_pretrained(folder)
  return str(root)


@pytest.fixture(autouse=True)
def short(monkeypatch):
  monkeypatch.setattr(marian, "MAX_TOKENS", 12)  # random weights rarely end a sentence


TEXTS = ["the cat likes bread.", "a baker.", "the old dog eats a good warm loaf."]


def test_results_do_not_depend_on_the_batch(models):
  single = marian.make_translator("en", ["de"], models, batch=1)
  batched = marian.make_translator("en", ["de"], models, batch=8)
  translations = single.translate(TEXTS, "en", "de")
  assert batched.translate(TEXTS, "en", "de") == translations
  assert single.translate(TEXTS[::-1], "en", "de") == translations[::-1]
  assert len(set(translations)) > 1
  assert single.translate([], "en", "de") == []


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_translations_match_transformers(models):
  tokenizer = transformers.MarianTokenizer.from_pretrained(f"{models}/opus-mt-en-de")
  model = transformers.MarianMTModel.from_pretrained(f"{models}/opus-mt-en-de")
  ids = model.eval().generate(**tokenizer(TEXTS[0], return_tensors="pt"), max_length=12)
  expected = tokenizer.decode(ids[0], skip_special_tokens=True)
  translator = marian.make_translator("en", ["de"], models)
  assert translator.translate(TEXTS[:1], "en", "de") == [expected]


def test_code_in_a_folder_is_never_run(models, monkeypatch):
  trusted = []
  for kind in (transformers.MarianMTModel, transformers.MarianTokenizer):
    load = kind.from_pretrained

    def record(*arguments, load=load, **options):
      trusted.append(options.get("trust_remote_code"))
      return load(*arguments, **options)

    monkeypatch.setattr(kind, "from_pretrained", record)
  marian.make_translator("en", ["de"], models).translate(TEXTS[:1], "en", "de")
  assert trusted == [False, False]


def test_each_direction_has_its_own_model(models):
  translator = marian.make_translator("en", ["de", "ro"], models)
  translations = {
    pair: translator.translate(TEXTS, *pair)
    for pair in (("en", "de"), ("de", "en"), ("en", "ro"), ("ro", "en"))
  }
  assert len({tuple(texts) for texts in translations.values()}) == 4
  assert sorted(translator.models.values()) == sorted(
    f"opus-mt-{pair}" for pair in PAIRS
  )


def test_views_of_the_engine(models):
  keywords = {"translator": "marian", "pivots": ("de", "ro"), "models": models}
  engine = engines.make("backtranslation", keywords)
  text = "The cat likes bread.\n\nA baker bakes. 42"
  sources = [Source("0", text, "A dog.")]
  views = [v for n in range(3) for _, views in engine.make(sources, n) for v in views]
  assert len(views) == 2
  assert all(re.fullmatch(r"[^\n]*\n\n[^\n]* 42", view.text) for view in views)
  assert all(view.response for view in views)
  json.dumps(engine.settings)


def test_the_error_without_a_network(monkeypatch, tmp_path):
  monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
  monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
  translator = marian.make_translator("en", ["de"])
  with pytest.raises(
    UserError, match=r"Helsinki-NLP/opus-mt-en-de cannot be loaded \(.*offline"
  ):
    translator.translate(["a cat"], "en", "de")


def test_missing_and_broken_models(models, tmp_path):
  with pytest.raises(UserError, match="no folder opus-mt-en-fr"):
    marian.make_translator("en", ["fr"], models)
  for pair in ("en-fr", "fr-en"):
    shutil.copytree(f"{models}/opus-mt-en-de", tmp_path / f"opus-mt-{pair}")
  (tmp_path / "opus-mt-en-fr" / "model.safetensors").unlink()
  with pytest.raises(UserError, match="opus-mt-en-fr cannot be loaded"):
    marian.make_translator("en", ["fr"], str(tmp_path)).translate(["a"], "en", "fr")
