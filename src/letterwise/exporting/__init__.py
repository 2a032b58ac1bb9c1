"""What a run made, in the formats of other tools: evaluation harness tasks, CTranslate2, GGUF."""
