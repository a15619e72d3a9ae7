#!/usr/bin/env python3
# names.py: names of mappings in a real process: in /proc/PID/maps where the kernel has them; never asked for unless the setting says so, for a filter of
# system calls may end a program that does something unexpected.
# SPDX-License-Identifier: MIT
import os
import re
import signal
import subprocess
import tempfile
import unittest

LIBRARY = os.environ["SEEMALLOC_LIB"]
CC = os.environ.get("CC") or "cc"
LAUNCHER = r"""
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* launch none|kill|allow PROGRAM: what becomes of prctl(PR_SET_VMA, ...); "allow": it does nothing, and succeeds. */
int main(int argc, char **argv) {
    unsigned action = strcmp(argv[1], "kill") == 0 ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x53564d41, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    if (strcmp(argv[1], "none") != 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)) return 77;
    setenv("LD_PRELOAD", getenv("LIBRARY"), 1);
    execv(argv[2], argv + 2);
    return argc;
}
"""
PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *work(void *arg) {
    char *block[200];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 200; i++) memset(block[i] = malloc(20000), 1, 20000);
        for (int i = 0; i < 200; i++) free(block[i]);
    }
    return arg;
}

int main(void) {
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) pthread_create(&thread[i], NULL, work, NULL);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    void *volatile large = malloc(5 << 20);
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps) != NULL) fputs(line, stdout);
    return large == NULL;
}
"""


class Names(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        for name, source in ("launch", LAUNCHER), ("program", PROGRAM):
            subprocess.run([CC, "-O1", "-fno-builtin", "-w", "-x", "c", "-", "-o", os.path.join(cls.folder.name, name), "-pthread"], input=source, text=True,
                           check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_program(self, filtered, conf):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "SEEMALLOC_", "GLIBC_TUNABLES", "LD_"))}
        env.update(LIBRARY=LIBRARY, **({"SEEMALLOC_CONF": conf} if conf else {}))
        done = subprocess.run([os.path.join(self.folder.name, "launch"), filtered, os.path.join(self.folder.name, "program")], env=env,
                              capture_output=True, text=True)
        if done.returncode == 77:
            self.skipTest("no filters of system calls here")
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout

    def test_not_asked_for(self):
        status, maps = self.run_program("kill", None)
        self.assertEqual(status, 0)
        self.assertNotIn("seemalloc:", maps)
        self.assertEqual(self.run_program("kill", "names:0")[0], 0)

    def test_the_filter_works(self):
        self.assertEqual(self.run_program("kill", "names:1")[0], -signal.SIGSYS)

    def test_success_without_effect(self):
        status, maps = self.run_program("allow", "names:1")
        self.assertEqual(status, 0)
        self.assertNotIn("seemalloc:", maps)

    def test_as_the_kernel_has_it(self):
        status, maps = self.run_program("none", "names:1")
        self.assertEqual(status, 0)
        names = re.findall(r"\[anon:(seemalloc: \w+)\]$", maps, re.M)
        if not names:
            self.skipTest("this kernel names no mappings (CONFIG_ANON_VMA_NAME)")
        self.assertEqual(set(names), {"seemalloc: heap", "seemalloc: block", "seemalloc: books"})
        _, without = self.run_program("none", None)
        self.assertLessEqual(abs(len(maps.splitlines()) - len(without.splitlines())), 4)


unittest.main(verbosity=2)
