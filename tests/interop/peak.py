# SPDX-License-Identifier: MIT
"""How much memory a process takes."""

import threading
import time


class Peak:
    """The most memory that a process had, looked at until it ends."""

    def __init__(self, process):
        self.process = process
        self.kib = self.anonymous_kib = 0
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def end(self):
        """KiB, once it has ended."""
        self.thread.join()
        return self.kib

    def look(self):
        while self.process.poll() is None:
            try:
                with open(f"/proc/{self.process.pid}/status",
                          encoding="utf-8") as lines:
                    for line in lines:
                        if line.startswith("VmHWM:"):
                            self.kib = int(line.split()[1])
                        elif line.startswith("RssAnon:"):
                            self.anonymous_kib = max(self.anonymous_kib,
                                                     int(line.split()[1]))
            except OSError:
                pass
            time.sleep(0.01)
