"""Makes views of texts and stores them in a dataset folder."""
