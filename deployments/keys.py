"""`python -m deployments.keys`: makes the key that signs releases here, and puts its public half among those that environments trust."""

import sys

from blocks.settings import settings
from blocks.signing import make_key_pair
from delivery.errors import DeliveryError

NAME = "release.pub"


def main() -> int:
    """A key that is there stays. Exit code 2: something was refused, said in one message."""
    try:
        installation = settings()
        private, public = installation.work_dir / "signing.key", installation.keys_dir / NAME
        make_key_pair(private, public)
    except (DeliveryError, OSError) as refused:
        print(f"{refused}" if isinstance(refused, DeliveryError) else f"The key cannot be made: {type(refused).__name__}.", file=sys.stderr)
        return 2
    print(f"Private key: {private} (only its owner may read it; every machine that runs the pipeline needs it)")
    print(f"Public key:  {public} (commit it with the environment files)")
    print(f'Into the blocks file:\n\n[signing-key.default]\nfile = "{private}"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
