"""What runs next to the host process: the fork server, the supervisors, and what they start.

These modules are loaded by path into a bare interpreter, so they import only the standard
library and each other (relatively). Of the standard library they import as little as they can,
because every fork copies the memory it takes (`typing` and `dataclasses` would add a quarter).

The processes are

* one *fork server* per host process, which only forks (`fork_server`);
* one *supervisor* per sandbox and per job, forked from the fork server and never confined, which
  starts commands, watches their limits, and ends when its control channel does (`loop`);
* one *launcher* per command, which confines itself and then starts the shell (`launcher`);
* one process per search of a job's output, confined like a command (`search`).

The files that set up a sandbox:

* `setup`: what each tier consists of;
* `box`: a sandbox that is set up, and what is done before and after each of its commands;
* `namespaces`: the private tree of files, and the namespaces around it;
* `landlock`, `seccomp`: which files may be opened, and which system calls made.

The files that run commands in it:

* `loop`: the supervisor, which takes requests, runs commands and ends them;
* `process_tree`: the processes of a sandbox, listed, measured and ended;
* `watchdog`: the limits that no system call enforces;
* `output`: a command's output in bounded memory;
* `job_requests`: what the host may ask while a job runs.

And what these are made of: `messages` between processes, `disk` for folders that hostile code has
written, `kernel` for system calls.

Nothing here protects against bugs of the kernel, or against side channels such as timing and
load.
"""
