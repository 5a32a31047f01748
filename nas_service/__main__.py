"""``python -m nas_service`` is ``nas``."""

from nas_service.cli import main

if __name__ == "__main__":
    main()
