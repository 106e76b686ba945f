"""Adapters to other frameworks: one thin file each, of public names only; nothing inside needs them."""
