"""Read texts and labels from files, the Hugging Face hub and object storage."""
