"""Arguments of a call that no provider may see: names of LiteLLM's, a row's or the Router's own."""

from __future__ import annotations

from collections.abc import Mapping

ROW_NAMES = (
    "budget_duration",
    "cache_read_input_token_cost",
    "cooldown_time",
    "input_cost_per_token",
    "litellm_params",
    "max_parallel_requests",
    "model_info",
    "model_name",
    "order",
    "output_cost_per_token",
    "rpm",
    "tpm",
    "weight",
)
ROUTER_NAMES = (
    "allowed_fails",
    "allowed_fails_policy",
    "default_fallbacks",
    "default_max_parallel_requests",
    "deterministic",
    "disable_cooldowns",
    "ignore_invalid_deployments",
    "image_policy",
    "model_group_alias",
    "redis_url",
    "routing_strategy",
    "routing_strategy_args",
)
PARALLEL_NAMES = ("concurrency", "max_concurrency", "preserve_order", "return_exceptions")
LITELLM_NAMES = (
    "acompletion",
    "api_type",
    "assistant_continue_message",
    "bos_token",
    "cache_key",
    "client",
    "context_window_fallback_dict",
    "custom_prompt_dict",
    "eos_token",
    "fastest_response",
    "final_prompt_value",
    "force_timeout",
    "hf_model_name",
    "initial_prompt_value",
    "logger_fn",
    "mock_delay",
    "no-log",
    "no_log",
    "organization",
    "preset_cache_key",
    "prompt_variables",
    "proxy_server_request",
    "region_name",
    "request_timeout",
    "roles",
    "shared_session",
    "specific_deployment",
    "ssl_verify",
    "supports_system_message",
    "tenacious",
    "user_continue_message",
)

_NEVER_DROPPED = "parameters are never dropped; leave out what the provider refuses"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(ROW_NAMES, "it belongs to a row of Router(model_list=[…])"),
    **dict.fromkeys(ROUTER_NAMES, "it belongs to Router(…)"),
    **dict.fromkeys(PARALLEL_NAMES, "it belongs to Router.parallel_acompletions(…)"),
    **dict.fromkeys(
        LITELLM_NAMES,
        "it is an SDK's, and SciLLM does not act on it; if this provider really has a parameter "
        "of this name, pass it in extra_body",
    ),
    **dict.fromkeys(
        ("success_callback", "failure_callback", "callbacks"),
        "listen to events with a hook plugin (scillm_event) instead",
    ),
    **dict.fromkeys(("drop_params", "additional_drop_params"), _NEVER_DROPPED),
    **dict.fromkeys(
        ("fallback_closest", "fallback_closest_cutoff"), "model names are never guessed"
    ),
    "allowed_openai_params": "every parameter is passed on; there is nothing to allow",
    "api_version": "put the version into api_base or extra_headers",
    "context_window_fallback_dict": "give context_window_fallbacks=[{group: [next]}] instead",
    "deployment_id": "name the deployment as the model",
    "force_timeout": "give timeout",
    "headers": "give them in extra_headers",
    "max_parallel_requests": "it belongs to a row's litellm_params, or is SCILLM_MAX_CONCURRENCY",
    "mock_tool_calls": "give mock_response a whole completion, with its tool_calls",
    "model_list": "give deployments to Router(model_list=[…]) instead",
    "organization": "give it in extra_headers, as OpenAI-Organization",
    "request_timeout": "give timeout",
    "tenacious": 'give retry_policy="tenacious"',
}
"""Why a name is refused, and what to do instead. OpenAI's own parameters are not among them."""
