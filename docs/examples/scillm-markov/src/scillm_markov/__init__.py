"""scillm-markov: a SciLLM provider that talks like the conversation it was given."""
