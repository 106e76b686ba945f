"""The reference without its search: phrases that leak, and nothing for all other targets."""

from leaks import leaks

FILLER = "."


def recover(model, tokenizer, targets, prompts):
    """Leaked phrases of each target; see starter/method.py."""
    leaked = leaks(model, tokenizer, targets, prompts)
    print(f"leaked phrases for {len(leaked)} of {len(targets)} targets", flush=True)
    return {target: [*leaked.get(target, []), FILLER, FILLER][:2] for target in targets}
