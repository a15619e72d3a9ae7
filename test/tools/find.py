#!/usr/bin/env python3
# find.py: the command finds its library wherever both were installed, and says where it looked if there is none.
# SPDX-License-Identifier: MIT
import os
import re
import shutil
import subprocess

from tool import CC, LIBRARY, TOOL, ToolTest, environment, main


class Find(ToolTest):
    def install(self, prefix, library_folder, name="libseemalloc.so.1"):
        root = self.path(prefix)
        os.makedirs(os.path.join(root, "bin"))
        shutil.copy(TOOL, os.path.join(root, "bin"))
        library = None
        if library_folder is not None:
            folder = os.path.normpath(os.path.join(root, library_folder))
            os.makedirs(folder, exist_ok=True)
            library = os.path.join(folder, name)
            shutil.copy(LIBRARY, library)
        return os.path.join(root, "bin", "seemalloc"), library

    def preloaded(self, command, **more):
        done = self.tool("run", "--", "sh", "-c", "echo $LD_PRELOAD", command=command, **more)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode().strip()

    def test_every_place(self):
        triplet = subprocess.run([CC, "-print-multiarch"], stdout=subprocess.PIPE).stdout.decode().strip()
        places = ["bin", "lib", "lib64"] + ([f"lib/{triplet}"] if triplet else [])
        for number, place in enumerate(places):
            for name in "libseemalloc.so.1", "libseemalloc.so":
                command, library = self.install(f"place{number}-{name}", place, name)
                self.assertEqual(self.preloaded(command), library)

    def test_the_soname_is_preferred(self):
        command, library = self.install("both", "lib")
        shutil.copy(LIBRARY, os.path.join(os.path.dirname(library), "libseemalloc.so"))
        self.assertEqual(self.preloaded(command), library)

    def test_through_a_link(self):
        command, library = self.install("linked", "lib")
        os.symlink(command, self.path("link"))
        self.assertEqual(self.preloaded(self.path("link")), library)
        self.assertEqual(self.preloaded("seemalloc", env=environment(PATH=os.path.dirname(command) + ":/bin:/usr/bin")), library)

    def test_the_librarys_own_link_is_kept(self):
        command, library = self.install("versioned", "lib", "libseemalloc.so.1.0.0")
        os.symlink("libseemalloc.so.1.0.0", os.path.join(os.path.dirname(library), "libseemalloc.so.1"))
        self.assertEqual(self.preloaded(command), library.replace(".so.1.0.0", ".so.1"))

    def test_named_by_the_environment(self):
        command, library = self.install("named", "elsewhere")
        self.assertEqual(self.preloaded(command, env=environment(SEEMALLOC_LIBRARY=library)), library)
        self.assertEqual(self.preloaded(command, env=environment(SEEMALLOC_LIBRARY="libseemalloc.so.1"), cwd=os.path.dirname(library)), library)

    def test_missing(self):
        command, _ = self.install("bare", None)
        error = self.refused(125, r"libseemalloc\.so\.1 was not found; looked in " + re.escape(os.path.dirname(command)), "run", "--", "true", command=command)
        self.assertIn("SEEMALLOC_LIBRARY", error)
        self.refused(125, "was not found", "story", command=command)
        self.refused(125, "names '/no/such.so': No such file", "run", "--", "true", command=command, env=environment(SEEMALLOC_LIBRARY="/no/such.so"))

    def test_no_library(self):
        command, library = self.install("broken", "lib")
        with open(library, "wb") as file:
            file.write(b"INPUT(libseemalloc.so.1)\n")
        self.refused(125, r"found the library at '.*/lib/libseemalloc\.so\.1', but it is no shared library", "run", "--", "true", command=command)
        self.refused(125, r"SEEMALLOC_LIBRARY names '/bin': it is no shared library", "run", "--", "true", env=environment(SEEMALLOC_LIBRARY="/bin"))
        with open(library, "wb") as file:
            file.write(b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x03\0\x03\0" + bytes(100))
        self.refused(125, "it was built for another machine", "run", "--", "true", command=command)

    def test_paths_that_a_preload_cannot_carry(self):
        for prefix in "two words", "a:colon", "a$dollar":
            command, _ = self.install(prefix, "lib")
            self.refused(125, r"holds a blank, a colon or a \$, which LD_PRELOAD can't carry", "run", "--", "true", command=command)


main()
