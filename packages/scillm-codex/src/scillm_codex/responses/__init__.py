"""The Responses bridge: OpenAI's Responses API in front of any SciLLM provider."""
