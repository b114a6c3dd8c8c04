"""The platforms that Greenroom can bring a release to. Adding one is one file and one line here; the contract tests pick it up."""

from prefect.blocks.core import Block

from blocks.targets.docker import DockerTarget

TARGETS: tuple[type[Block], ...] = (DockerTarget,)
