"""Which words are trained on and which are held out."""
