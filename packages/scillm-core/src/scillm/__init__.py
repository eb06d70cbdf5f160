"""SciLLM: LLMs propose, deterministic checks dispose."""
