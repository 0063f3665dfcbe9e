"""scripts/dev-stack itself: up, up again, a lost process, restart, down; and pids that are not its own.

Run by meson test as root.
Never uses the installed programs: the stack under test is the fixture's.
"""

import json
import os
import subprocess
import time

from harness import SOURCE, StackTest, devstack, main


class DevStack(StackTest):
    with_manager = True

    def script(self, *words, status=0):
        """scripts/dev-stack on the fixture's stack."""
        stack = self.stack
        result = subprocess.run(
            [str(SOURCE / "scripts" / "dev-stack"), "--root", stack.directory, "--config", stack.config, "--prefix",
             stack.prefix, "--polkit", stack.polkit_dir, *words], capture_output=True, text=True, check=False, cwd="/",
            timeout=120)
        self.assertEqual(result.returncode, status, result.stderr)
        return result

    def test_up_again_starts_nothing(self):
        before = self.stack.running()
        self.assertTrue(all(before.values()))
        self.assertEqual(self.script("up").stderr, "")
        self.assertEqual(self.stack.running(), before)

    def test_up_replaces_what_is_lost(self):
        before = self.stack.running()
        self.stack.kill("helper")
        self.script("status", status=1)
        self.assertEqual(self.script("up").stderr, "dev-stack: started helper\n")
        after = self.stack.running()
        self.assertEqual({k: v for k, v in after.items() if k != "helper"},
                         {k: v for k, v in before.items() if k != "helper"})
        self.script("status")

    def test_restart(self):
        before = self.stack.running()
        self.script("restart")
        after = self.stack.running()
        changed = sorted(name for name in after if after[name] != before[name])
        self.assertEqual(changed, ["helper", "manager"])

    def test_run_is_the_owner(self):
        result = self.script("run", "sh", "-c", "id -u; id -g; echo $HOME; pwd; exit 3", status=3)
        owner = self.stack.owner
        self.assertEqual(result.stdout.splitlines(), [str(owner.pw_uid), str(owner.pw_gid), owner.pw_dir, "/"])
        result = self.script("run", "--", "grep", "-E", "^(NoNewPrivs|CapEff):", "/proc/self/status")
        self.assertIn("CapEff:\t0000000000000000", result.stdout)

    def test_foreign_pids_are_left_alone(self):
        """A recorded pid with another start time is another process."""
        other = subprocess.Popen(["sleep", "60"])
        try:
            self._pretend(other.pid, devstack.process_start(other.pid) + 1)
            self.assertIsNone(self.stack.pid("stranger"))
            self.stack.stop("stranger")
            time.sleep(0.1)
            self.assertIsNone(other.poll())
            self._pretend(other.pid, devstack.process_start(other.pid))
            self.assertEqual(self.stack.pid("stranger"), other.pid)
        finally:
            other.kill()
            other.wait()
            os.unlink(f"{self.stack.directory}/stranger.pid")

    def _pretend(self, pid, start):
        with open(f"{self.stack.directory}/stranger.pid", "w", encoding="ascii") as f:
            json.dump({"pid": pid, "start": start}, f)


if __name__ == "__main__":
    main()
