"""One run of one peer on one problem, in the peer's own environment; prints the scores as JSON.

`python search_peer.py treequest-ab|treequest-mcts|openevolve PROBLEM SEED BUDGET`
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

from search_problems import PROBLEMS, luck


def treequest_scores(algorithm, problem, seed, budget):
    """Ask, make or start, tell; numpy's global generator is treequest's only luck."""
    np, treequest = import_module("numpy"), import_module("treequest")
    np.random.seed(seed)
    search = treequest.ABMCTSA() if algorithm == "ab" else treequest.StandardMCTS()
    state, scores = search.init_tree(), []
    for number in range(budget):
        state, trial = search.ask(state, ["make"])
        code = (
            problem.first()
            if number == 0
            else problem.rewrite(trial.parent_state, luck(seed, number))
        )
        scores.append(problem.score(code))
        state = search.tell(state, trial.trial_id, (code, scores[-1]))
    return scores


class Script(BaseHTTPRequestHandler):
    """A chat model on loopback: rewrites the last program it is shown."""

    protocol_version = "HTTP/1.1"
    problem: Any = None
    seed = 0
    asked = 0

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body["messages"][-1]["content"]
        current = prompt[prompt.rfind("# Current Program") :]
        type(self).asked += 1
        code = self.problem.rewrite(current, luck(self.seed, type(self).asked))
        answer = json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": "script",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": f"```python\n{code}```"},
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format, *args):  # noqa: ARG002  (the name is the base class's)
        return


EVALUATOR = """
import sys
sys.path.insert(0, {folder!r})
from search_problems import PROBLEMS
PROBLEM = PROBLEMS[{problem!r}]({seed})

def evaluate(path):
    code = open(path).read()
    score = PROBLEM.score(code)
    with open({log!r}, "a") as log:
        log.write(f"{{score}}\\n")
    return {{"combined_score": score}}
"""


def openevolve_scores(name, problem, seed, budget):
    """Its library call with its defaults, but one evaluation at a time and whole rewrites."""
    run_evolution = import_module("openevolve").run_evolution
    config_of = import_module("openevolve.config")
    Script.problem, Script.seed = problem, seed
    server = ThreadingHTTPServer(("127.0.0.1", 0), Script)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}/v1"
    with tempfile.TemporaryDirectory() as folder:
        log, evaluator, first = (
            Path(folder) / part for part in ("log", "evaluator.py", "first.py")
        )
        here = str(Path(__file__).parent)
        evaluator.write_text(
            EVALUATOR.format(folder=here, problem=name, seed=seed, log=str(log)), encoding="utf-8"
        )
        first.write_text(f"# EVOLVE-BLOCK-START\n{problem.first()}# EVOLVE-BLOCK-END\n", "utf-8")
        config = config_of.Config()
        config.llm.models = [config_of.LLMModelConfig(name="script", api_base=base, api_key="none")]
        config.llm.update_model_params({"api_base": base, "api_key": "none", "timeout": 30})
        config.random_seed = config.database.random_seed = seed
        config.diff_based_evolution = False
        config.evaluator.parallel_evaluations = 1
        config.evaluator.cascade_evaluation = False
        config.log_level = "ERROR"
        # An iteration can end without an evaluation; a few more, and the log is cut at the budget.
        config.max_iterations = budget + budget // 10
        run_evolution(
            str(first),
            str(evaluator),
            config,
            iterations=config.max_iterations,
            output_dir=f"{folder}/out",
        )
        server.shutdown()
        return [float(line) for line in log.read_text("utf-8").split()]


def main():
    peer, name, seed, budget = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    problem = PROBLEMS[name](seed)
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a peer prints goes to stderr; stdout is for the scores
    if peer == "openevolve":
        scores = openevolve_scores(name, problem, seed, budget)
    else:
        scores = treequest_scores(peer.removeprefix("treequest-"), problem, seed, budget)
    os.write(out, json.dumps(scores[:budget]).encode())


if __name__ == "__main__":
    main()
