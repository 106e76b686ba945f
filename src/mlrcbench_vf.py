"""The taskset `mlrcbench-vf`: a top-level module, as verifiers looks for tasksets only there."""

from mlrcbench.integrations.verifiers import ResearchTaskset

__all__ = ["ResearchTaskset"]
