"""The vLLM engine process, the adapter pool and the OpenAI-compatible gateway."""
