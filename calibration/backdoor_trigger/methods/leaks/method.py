"""The reference without its search: leaked phrases, and only fillers for all other targets."""

from leaks import leaks

FILLER = "."


def recover(model, tokenizer, targets, prompts):
    """Leaked phrases of each target; starter/method.py describes arguments and result."""
    leaked = leaks(model, tokenizer, targets, prompts)
    print(f"leaked phrases for {len(leaked)} of {len(targets)} targets", flush=True)
    return {target: [*leaked.get(target, []), FILLER, FILLER][:2] for target in targets}
