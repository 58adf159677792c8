"""A command line under test, in a directory of its own."""

import os
import subprocess
import tempfile


def directory():
    return tempfile.mkdtemp(dir=os.environ["HOME"])


def environment(home, **env):
    """Nothing of who runs this. A variable that is None is not there."""
    names = ("PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "LANG")
    inherited = {name: os.environ.get(name) for name in names}
    return {name: value for name, value in (inherited | {"HOME": home} | env).items() if value is not None}


def command(*args, cwd, within_s=90, **env):
    """What it prints; its home is where it runs."""
    env = environment(cwd, **env)
    return subprocess.run(
        args, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within_s
    )


def printed(done):
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return done.stdout


def package(path):
    """A program of an installed package of Node."""
    return os.path.join(os.environ["NODE_MODULES"], path)
