#!/usr/bin/env python3
# refuse.py: programs that a preload can't reach are refused with a reason, what to do, and the customary exit status; none that it can reach is.
# SPDX-License-Identifier: MIT
import os
import shutil
import struct
import subprocess
import unittest

from tool import LIBRARY, ROOT, TOOL, ToolTest, environment, main

SECURE = """
#include <stdio.h>
#include <sys/auxv.h>
int main(void) { printf("%lu\\n", getauxval(AT_SECURE)); return 0; }
"""
TRUE = "int main(void) { return 0; }"
NOBODY = 65534


class Refuse(ToolTest):
    def refuses(self, status, message, path, **more):
        error = self.refused(status, message, "run", "--", path, **more)
        self.assertTrue(error.startswith("seemalloc: "))
        return error

    def test_missing(self):
        self.refuses(127, r"/no/such/program: not found", "/no/such/program")
        self.refuses(127, r"not found", self.write("file", "") + "/below")

    def test_folder_and_other_files(self):
        self.refuses(126, r"is a directory", self.folder)
        self.refuses(126, r"is no regular file", "/dev/null")
        os.mkfifo(self.path("pipe"))
        self.refuses(126, r"is no regular file", self.path("pipe"))

    def test_not_executable(self):
        self.refuses(126, r"is not executable .*mode 0644.*chmod \+x", self.write("data", "#!/bin/sh\n", 0o644))

    def test_long_path(self):
        self.refuses(126, r"has 5001 bytes", "/" + "x" * 5000)
        self.refuses(126, r"File name too long", "/" + "x" * 300)

    def test_static(self):
        static = self.compile("static", TRUE, "-static")
        self.assertEqual(subprocess.run([static]).returncode, 0)
        self.refuses(126, r"static: is statically linked: .*libseemalloc\.a", static)
        pie = self.compile("static-pie", TRUE, "-static-pie", "-fPIE")
        self.refuses(126, r"is statically linked \(static-pie\)", pie)

    def test_musl_and_missing_loader(self):
        for machine in "x86_64", "aarch64":
            self.refuses(126, rf"is linked with musl \(its loader is /lib/ld-musl-{machine}\.so\.1\).*glibc",
                         self.compile("musl", TRUE, f"-Wl,--dynamic-linker=/lib/ld-musl-{machine}.so.1"))
        self.refuses(127, r"needs the loader /nosuch/ld\.so: No such file", self.compile("loaderless", TRUE, "-Wl,--dynamic-linker=/nosuch/ld.so"))

    def test_other_machines(self):
        def header(bits, order, machine):
            return b"\x7fELF" + bytes([bits, order, 1]) + bytes(9) + struct.pack("<HH" if order == 1 else ">HH", 2, machine) + bytes(200)

        with open(TOOL, "rb") as own:
            own_machine = struct.unpack("<H", own.read(20)[18:])[0]
        other = 183 if own_machine != 183 else 62
        self.refuses(126, r"is a 32-bit program for i386", self.write("i386", header(1, 1, 3)))
        self.refuses(126, r"is a 32-bit program for x86-64", self.write("x32", header(1, 1, 62)))
        self.refuses(126, r"is a 32-bit program for ARM", self.write("arm", header(1, 1, 40)))
        self.refuses(126, r"is a 64-bit program for (AArch64|x86-64)", self.write("other", header(2, 1, other)))
        self.refuses(126, r"is a 64-bit program for s390", self.write("big", header(2, 2, 22)))
        self.refuses(126, r"is a 64-bit program for machine 9999", self.write("unknown", header(2, 1, 9999)))

    def test_damaged_files(self):
        with open(self.compile("whole", TRUE), "rb") as file:
            whole = file.read()
        for length in 4, 16, 40, 63, 100:
            self.refuses(126, r"is a damaged ELF file", self.write("short", whole[:length]))
        phoff = struct.pack("<Q", 1 << 62)
        self.refuses(126, r"is a damaged ELF file", self.write("far", whole[:32] + phoff + whole[40:]))
        os.chmod(self.compile("object.o", TRUE, "-c"), 0o755)
        self.refuses(126, r"is an ELF file of type 1", self.path("object.o"))
        self.refuses(126, r"is neither an ELF program nor a script", self.write("garbage", bytes(range(256))))

    def test_scripts_are_followed(self):
        static = self.compile("static", TRUE, "-static")
        script = self.write("of-static", f"#!{static}\n")
        self.refuses(126, r"static: is statically linked", script)
        self.refuses(126, r"static: is statically linked", self.write("outer", f"#!{script}\n"))
        self.refuses(126, r"static: is statically linked", self.write("by-env", f"#!/usr/bin/env -S X=1 {static} -q\n"))
        self.refuses(127, r"is a script for '/no/such/sh'(.|\n)*/no/such/sh: not found", self.write("orphan", "#!/no/such/sh -e\n"))
        self.refuses(127, r"nosuchprogram: not found in PATH", self.write("env-orphan", "#!/usr/bin/env nosuchprogram\n"))
        self.refuses(126, r"is a script for '/tmp'(.|\n)*is a directory", self.write("of-folder", "#!/tmp\n"))
        self.refuses(126, r"'#!' without an interpreter", self.write("none", "#!\necho\n"))
        self.refuses(126, r"the interpreters of scripts are scripts", self.write("ring", f"#!{self.path('ring')}\n"))

    def test_what_can_be_reached_is_not_refused(self):
        with open(self.compile("dynamic", TRUE), "rb") as file:
            data = file.read()
        loader = data[data.index(b"/lib"):].split(b"\0")[0].decode()
        for line in [self.path("dynamic")], [self.compile("fixed", TRUE, "-no-pie")], [loader, self.path("dynamic")], ["env", "true"]:
            done = self.tool("run", "--", *line)
            self.assertEqual((done.returncode, done.stderr), (0, b""), line)


def capabilities(effective):
    """The xattr of CAP_NET_RAW, as setcap writes it."""
    return struct.pack("<IIIII", 0x02000000 | effective, 1 << 13, 0, 0, 0)


@unittest.skipUnless(ROOT, "only root can make programs of other users")
class Secure(ToolTest):
    """The command refuses exactly what the kernel would run in secure-execution mode: the program is asked, by running it directly."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = cls.compile("secure", SECURE)
        shutil.copy(TOOL, cls.path("seemalloc"))
        shutil.copy(LIBRARY, cls.path("libseemalloc.so.1"))

    def compare(self, expected, user=0, group=0, owner=0, owning_group=0, mode=0o755, xattr=None, wrap=()):
        path = self.path("candidate")
        shutil.copy(self.program, path)
        os.chown(path, owner, owning_group)
        os.chmod(path, mode)
        if xattr:
            os.setxattr(path, "security.capability", xattr)

        def become():
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)

        direct = subprocess.run([*wrap, path], env=environment(), preexec_fn=become, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        done = subprocess.run([*wrap, self.path("seemalloc"), "run", "--", path], env=environment(), preexec_fn=become, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        os.remove(path)
        self.assertEqual(direct.stdout, b"1\n" if expected else b"0\n", "the kernel's own answer")
        if direct.stdout == b"1\n":
            self.assertEqual((done.returncode, done.stdout), (126, b""))
            self.assertRegex(done.stderr.decode(), r"^seemalloc: \S*/candidate: .* secure-execution mode the loader ignores a preload")
        else:
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"0\n", b""))

    def test_setuid(self):
        self.compare(False)
        self.compare(False, mode=0o4755)  # setuid root, run by root
        self.compare(True, mode=0o4755, user=NOBODY, group=NOBODY)
        self.compare(True, mode=0o4755, owner=NOBODY)  # root would become nobody
        self.compare(False, mode=0o4755, owner=NOBODY, user=NOBODY, group=NOBODY)  # its own user

    def test_setgid(self):
        self.compare(True, mode=0o2755, owning_group=NOBODY)
        self.compare(False, mode=0o2755, owning_group=NOBODY, user=NOBODY, group=NOBODY)
        self.compare(False, mode=0o2745, owning_group=NOBODY)  # without group execution the bit means locking, not setgid

    def test_capabilities(self):
        self.compare(False, xattr=capabilities(1))  # root has them anyway
        self.compare(True, user=NOBODY, group=NOBODY, xattr=capabilities(1))
        self.compare(True, user=NOBODY, group=NOBODY, xattr=capabilities(0))

    def test_no_new_privileges(self):
        if not shutil.which("setpriv"):
            self.skipTest("no setpriv")
        wrap = ["setpriv", "--no-new-privs"]
        self.compare(False, mode=0o4755, user=NOBODY, group=NOBODY, wrap=wrap)
        self.compare(False, mode=0o2755, owning_group=NOBODY, wrap=wrap)

    def test_message_says_why(self):
        path = self.path("setuid")
        shutil.copy(self.program, path)
        os.chmod(path, 0o4755)
        done = subprocess.run([self.path("seemalloc"), "run", "--", path], env=environment(), user=NOBODY, group=NOBODY, extra_groups=[],
                              stderr=subprocess.PIPE)
        self.assertIn(f"is setuid to user 0, and user {NOBODY} runs it", done.stderr.decode())

    def test_unreadable_but_executable_runs(self):
        path = self.path("unreadable")
        shutil.copy(self.program, path)
        os.chmod(path, 0o711)
        done = subprocess.run([self.path("seemalloc"), "run", "--", path], env=environment(), user=NOBODY, group=NOBODY, extra_groups=[],
                              stdout=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stdout), (0, b"0\n"))


main()
