"""What runs beside the host process: the template, the supervisors, the confined children.

These modules are loaded by path into a bare interpreter, so they import the standard library
and each other (relatively) and nothing else; and of the standard library no more than they
need, because every fork copies the memory it takes (`typing` and `dataclasses` would add a
quarter). The processes are

* one *template* per host process, which only forks;
* one *supervisor* per sandbox, forked from the template, never confined, which starts
  commands, watches their limits, and ends when its control channel does;
* one *child* per command, which confines itself and then becomes the shell.

Nothing here protects against bugs of the kernel, or against side channels such as timing and
load.
"""
