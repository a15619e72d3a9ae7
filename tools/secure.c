/* secure.c: predicts AT_SECURE, by the kernel's rule: after the exec the effective user or group differs from the real one, or a user other
 * than root gains capabilities from the file. A setuid bit alone is no reason: a setuid-root program that root runs is not secure, nor one
 * that its own owner runs, and the bits count nothing on a nosuid mount or under no_new_privs.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "secure.h"

#include <endian.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static bool bits_count(int fd) {
    struct statvfs fs;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return false;
    return fstatvfs(fd, &fs) != 0 || !(fs.f_flag & ST_NOSUID);
}

/* Whether the file's capabilities would make the process of a user other than root secure: marked effective, or more than it has. */
static bool capabilities_gained(int fd) {
    struct vfs_ns_cap_data file = {0};
    ssize_t got = fgetxattr(fd, "security.capability", &file, sizeof file);
    if (got < (ssize_t)XATTR_CAPS_SZ_1) return false;
    if (le32toh(file.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE) return true;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct own[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capget, &header, own) != 0) return true;
    for (size_t i = 0; i < VFS_CAP_U32; i++)
        if (le32toh(file.data[i].permitted) & ~own[i].permitted) return true;
    return false;
}

bool secure_execution(int fd, char *why, size_t size) {
    struct stat st;
    if (fstat(fd, &st) != 0) return false;
    uid_t user = geteuid();
    gid_t group = getegid();
    bool counted = bits_count(fd);
    if (counted && (st.st_mode & S_ISUID)) user = st.st_uid;
    if (counted && (st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP)) group = st.st_gid;

    if (user != getuid() && user != geteuid())
        snprintf(why, size, "is setuid to user %u, and user %u runs it", (unsigned)user, (unsigned)getuid());
    else if (user != getuid())
        snprintf(why, size, "would run with effective user %u and real user %u", (unsigned)user, (unsigned)getuid());
    else if (group != getgid() && group != getegid())
        snprintf(why, size, "is setgid to group %u, and group %u runs it", (unsigned)group, (unsigned)getgid());
    else if (group != getgid())
        snprintf(why, size, "would run with effective group %u and real group %u", (unsigned)group, (unsigned)getgid());
    else if (counted && getuid() != 0 && capabilities_gained(fd))
        snprintf(why, size, "has file capabilities");
    else
        return false;
    return true;
}
