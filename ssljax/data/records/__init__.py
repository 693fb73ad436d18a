"""Records: reads JSONL, CSV and Parquet files into rows and checks them."""
