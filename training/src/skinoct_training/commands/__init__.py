"""The subcommands of ``skinoct-train``; each module has ``add_arguments(parser)`` and ``run(args)``."""
