"""Read labeled data and passages from files and Hugging Face data sets, with strict validation."""
