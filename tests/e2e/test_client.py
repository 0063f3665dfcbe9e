"""What the machine does when its client ends.

Run by meson test as root.
Never ends a process that is not this stack's.
"""

from guest import GuestTest, kill_now, main


class Client(GuestTest):
    def test_client_is_killed(self):
        """`--rm` holds also for a client that can do nothing any more; while it starts, when it runs, while nobody looks."""
        for state in ("starting", "running"):
            with self.subTest(state):
                run = self.stack.start_banger("vm", "run", "--rm", "--name", "gone", "--", "sleep", "1000")
                self.wait_state("gone", state, 240)
                if state == "running":
                    self.stack.kill("manager")
                kill_now(run.pid)
                run.communicate()
                if state == "running":
                    self.stack.start_manager()
                self.wait_state("gone", None, 60)
                self.assert_nothing_held()
        self.assertEqual(self._entries(self.stack.state / str(self.stack.owner.pw_uid) / "vms"), [])


if __name__ == "__main__":
    main()
