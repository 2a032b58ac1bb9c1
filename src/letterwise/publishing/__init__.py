"""What reaches the Hugging Face Hub: bundles, their upload, and their verification."""
