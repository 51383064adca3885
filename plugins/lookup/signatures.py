# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures in files of the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: signatures
author: incomex.phasegate contributors (@incomex)
short_description: Read reviewers' signatures on the controller
version_added: 0.1.0
description:
  - Returns the contents of signature files in Base64, by file name, as M(incomex.phasegate.rollback) takes them.
options:
  _terms:
    description: Paths of the files on the controller.
    type: list
    elements: path
"""

EXAMPLES = r"""
- name: Roll back what two reviewers signed
  incomex.phasegate.rollback:
    execution: "{{ execution }}"
    confirm: "{{ execution | basename }}"
    signatures_b64: "{{ lookup('incomex.phasegate.signatures', 'anna.sig', 'ben.sig') }}"
"""

RETURN = r"""
_raw:
  description: One mapping of file names to contents.
  type: list
  elements: dict
"""

import base64
import os
from typing import Any, Iterable

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError


def read_signatures(paths: Iterable[str]) -> dict[str, str]:
    """Return the contents of files in Base64, by file name. Raises ``PhaseGateError``, ``OSError``."""
    found: dict[str, str] = {}
    for path in paths:
        name = os.path.basename(path)
        if name in found:
            raise PhaseGateError(
                f"Duplicate file name of a signature: {name}.",
                expected="one file for each reviewer",
                found=path,
                next_step="give each signature once",
            )
        with open(path, "rb") as stream:
            found[name] = base64.b64encode(stream.read()).decode("ascii")
    return found


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core has no types
    """The lookup ``incomex.phasegate.signatures``."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, str]]:
        """Return one mapping."""
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return [read_signatures(os.path.expanduser(path) for path in terms)]
        except OSError as error:
            raise AnsibleLookupError(f"Cannot read the signature {error.filename}: {error.strerror}.") from error
        except PhaseGateError as error:
            raise AnsibleLookupError(str(error)) from error
