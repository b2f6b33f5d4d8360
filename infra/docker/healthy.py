"""The image's health check: every supervisor that listens in this container is ready.

A container runs one role, so the ports of the others refuse; none listening is not healthy.
"""

import http.client
import os
import sys

_SUPERVISORS = (9101, 9102, 9103, 9104)
_TIMEOUT = 4.0


def main() -> int:
    """0 where at least one supervisor answers and all that do are ready."""
    base = int(os.environ.get("GANTRY_PORT_BASE") or 0)
    answers = []
    for port in _SUPERVISORS:
        connection = http.client.HTTPConnection("127.0.0.1", port + base, timeout=_TIMEOUT)
        try:
            connection.request("GET", "/readyz")
            answers.append(connection.getresponse().status)
        except ConnectionRefusedError:
            continue
        except (OSError, http.client.HTTPException):
            answers.append(0)
        finally:
            connection.close()
    return 0 if answers and set(answers) == {200} else 1


if __name__ == "__main__":
    sys.exit(main())
