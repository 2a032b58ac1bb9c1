"""What a notebook on Colab finds: secrets. A part of the namespace `google`, which other packages share."""
