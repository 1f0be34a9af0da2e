#!/usr/bin/env python3
"""Clients that others wrote, unchanged, against octet serve: each from PyPI in an environment of its own under build/clients.

    tests/clients/clients.py [NAME ...] [--model FOLDER] [--keep]     all of them unless named; needs network, time and 8 GiB of disk

The model is the tests' own tiny one unless a folder is given. Prints a line a client; exit status 1 when one failed, and then what it
printed. `ninja clients` runs it.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
import harness  # noqa: E402

PACKAGES = {"litellm": "litellm", "langchain-openai": "langchain-openai", "llm": "llm", "evalscope": "evalscope[perf]",
            "guidellm": "guidellm", "lm-eval": "lm-eval[api] transformers"}
FOLDER = os.environ.get("OCTET_CLIENTS", os.path.join(ROOT, "build/clients"))
FLAGS = ["--max-model-len", "512", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"]


def environment(name):
    """The folder with the client's programs; made when it is not there."""
    where = os.path.join(FOLDER, name)
    if not os.path.exists(os.path.join(where, ".done")):
        print(f"{name}: installing {PACKAGES[name]}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", where], check=True)
        subprocess.run([os.path.join(where, "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name].split()], check=True)
        open(os.path.join(where, ".done"), "w").close()
    return os.path.join(where, "bin")


def run(*args, cwd=None, **env):
    """What it printed; an exit status other than 0 is a failure with that."""
    full = dict(os.environ, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="none", TOKENIZERS_PARALLELISM="false",
                HF_HOME=os.path.join(FOLDER, "hf"), **env)
    got = subprocess.run(args, capture_output=True, text=True, cwd=cwd, env=full, timeout=900)
    if got.returncode != 0:
        raise AssertionError(f"exit status {got.returncode}\n{got.stdout[-6000:]}\n{got.stderr[-6000:]}")
    return got.stdout


def check(condition, words):
    if not condition:
        raise AssertionError(words)


def python_script(name):
    def client(bin_, url, model, folder):
        run(os.path.join(bin_, "python"), os.path.join(HERE, f"use_{name}.py"), url, model, cwd=folder)
    return client


def llm(bin_, url, model, folder):
    with open(os.path.join(folder, "extra-openai-models.yaml"), "w") as f:
        json.dump([{"model_id": "octet", "model_name": "tiny", "api_base": url + "/v1", "api_key_name": "openai"}], f)
    for more in ([], ["--no-stream"]):
        out = run(os.path.join(bin_, "llm"), "-m", "octet", "Tell me a story", "-o", "max_tokens", "9", *more, LLM_USER_PATH=folder)
        check(len(out.strip()) > 0, f"no answer: {out!r}")


def evalscope(bin_, url, model, folder):
    for path in ("chat/completions", "completions"):
        out = run(os.path.join(bin_, "evalscope"), "perf", "--url", f"{url}/v1/{path}", "--api", "openai", "--model", "tiny",
                  "--parallel", "3", "--number", "9", "--dataset", "random", "--tokenizer-path", model, "--min-prompt-length", "60",
                  "--max-prompt-length", "60", "--min-tokens", "11", "--max-tokens", "11", "--extra-args", '{"ignore_eos": true}',
                  "--outputs-dir", os.path.join(folder, path.replace("/", "-")), cwd=folder)
        summary = find_json(os.path.join(folder, path.replace("/", "-")), "benchmark_summary.json")
        check((summary["Success Requests"], summary["Failed Requests"]) == (9, 0), f"{path}: {summary} {out[-2000:]}")
        check(abs(summary["Avg Output Tokens"] - 11) < 0.01, f"{path}: {summary}")


def find_json(folder, name):
    for where, _, names in os.walk(folder):
        if name in names:
            with open(os.path.join(where, name)) as f:
                return json.load(f)
    raise AssertionError(f"no {name} below {folder}")


def guidellm(bin_, url, model, folder):
    run(os.path.join(bin_, "guidellm"), "run", "--backend", f"kind=openai_http,target={url},model=tiny",
        "--profile", "kind=concurrent,streams=2", "--constraint", "kind=max_requests,count=8",
        "--tokenizer", f"kind=huggingface_auto,model={model}", "--data", "kind=synthetic_text,prompt_tokens=24,output_tokens=12",
        "--output", f"kind=json,path={folder}/report.json", "--disable-console", cwd=folder)
    with open(os.path.join(folder, "report.json")) as f:
        done = json.load(f)["benchmarks"][0]["requests"]
    check(len(done["successful"]) == 8 and not done["errored"], str(done)[:3000])
    check(all(r["output_metrics"]["text_tokens"] == 12 for r in done["successful"]), str(done["successful"][0])[:2000])


def lm_eval(bin_, url, model, folder):
    """Log-likelihoods of choices by echo and logprobs, and a generated answer, over questions in a file."""
    with open(os.path.join(folder, "questions.jsonl"), "w") as f:
        for i in range(6):
            f.write(json.dumps({"question": f"say {i}", "choices": [" yes", " no"], "answer": i % 2}) + "\n")
    common = f"""dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/questions.jsonl}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
    with open(os.path.join(folder, "choice.yaml"), "w") as f:
        f.write("task: octet_choice\noutput_type: multiple_choice\n" + common +
                "doc_to_choice: \"{{choices}}\"\ndoc_to_target: \"{{answer}}\"\nmetric_list:\n  - metric: acc\n")
    with open(os.path.join(folder, "free.yaml"), "w") as f:
        f.write("task: octet_free\noutput_type: generate_until\n" + common +
                "doc_to_target: \"{{answer}}\"\ngeneration_kwargs: {until: [\"zzz\"], max_gen_toks: 7}\nmetric_list:\n  - metric: exact_match\n")
    run(os.path.join(bin_, "lm_eval"), "run", "--model", "local-completions", "--model_args",
        f"base_url={url}/v1/completions,model=tiny,tokenizer={model},tokenized_requests=False,num_concurrent=2,max_length=256",
        "--include_path", folder, "--tasks", "octet_choice,octet_free", "--output_path", os.path.join(folder, "out"), cwd=folder)
    found = [os.path.join(w, n) for w, _, names in os.walk(os.path.join(folder, "out")) for n in names if n.startswith("results")]
    with open(found[0]) as f:
        results = json.load(f)["results"]
    check(set(results) >= {"octet_choice", "octet_free"}, str(results))


CLIENTS = {"litellm": python_script("litellm"), "langchain-openai": python_script("langchain"), "llm": llm, "evalscope": evalscope,
           "guidellm": guidellm, "lm-eval": lm_eval}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("names", nargs="*", choices=[*CLIENTS, []], default=[])
    p.add_argument("--model", default=None)
    p.add_argument("--keep", action="store_true", help="leave what the clients wrote")
    a = p.parse_args()
    model = a.model or harness.tiny_model()
    server = harness.Server(*FLAGS, model=model)
    failed = 0
    try:
        for name in a.names or CLIENTS:
            with tempfile.TemporaryDirectory(prefix=name) as folder:
                try:
                    CLIENTS[name](environment(name), f"http://127.0.0.1:{server.port}", model, folder)
                    print(f"{name}: passes", flush=True)
                except (AssertionError, subprocess.SubprocessError, OSError, KeyError, IndexError) as e:
                    failed += 1
                    print(f"{name}: FAILED: {e}", flush=True)
    finally:
        server.stop()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
