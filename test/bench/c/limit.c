/* limit: what the kernel alone costs. Starts PROGRAM in ROOT as a container
 * would be started from runc's default configuration, with nothing but the
 * system calls: six new namespaces, the cgroups of every mounted v1 hierarchy
 * (or one v2 cgroup), eight mounts, six device nodes, masked and read-only
 * paths, pivot_root, capabilities untouched. No runtime can be faster by much.
 *
 * usage: limit ROOT PROGRAM */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static char cgroups[32][256];
static int ncgroups;

static void check(long result, const char *what) {
  if (result < 0) {
    fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
    _exit(1);
  }
}

static void put(const char *dir, const char *file, const char *value) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", dir, file);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  check(fd, path);
  check(write(fd, value, strlen(value)), path);
  close(fd);
}

/* One directory in each hierarchy, the parent's cpus and memory nodes copied. */
static void make_cgroups(void) {
  FILE *mounts = fopen("/proc/self/mounts", "re");
  char line[1024], dir[256], type[64], options[512];
  while (fgets(line, sizeof line, mounts)) {
    if (sscanf(line, "%*s %255s %63s %511s", dir, type, options) != 3 || strncmp(type, "cgroup", 6) || strstr(options, "name=") || ncgroups == 32)
      continue;
    char *d = cgroups[ncgroups];
    if (snprintf(d, sizeof cgroups[0], "%s/limit%d", dir, getpid()) >= (int)sizeof cgroups[0] || mkdir(d, 0755) < 0)
      continue;
    ncgroups++;
    if (strstr(options, "cpuset")) {
      char path[512], value[256];
      const char *files[] = {"cpuset.cpus", "cpuset.mems"};
      for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, value, sizeof value - 1);
        close(fd);
        if (n > 0) {
          value[n] = 0;
          put(d, files[i], value);
        }
      }
    }
  }
  fclose(mounts);
}

static void mask(const char *path) {
  if (mount("/dev/null", path, NULL, MS_BIND, NULL) < 0 && errno == ENOTDIR)
    mount("tmpfs", path, "tmpfs", MS_RDONLY, NULL);
}

static void readonly(const char *path) {
  if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) == 0)
    mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static void child(const char *root, const char *program, int go) {
  char byte;
  check(read(go, &byte, 1), "wait for the cgroups");
  check(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL), "propagation");
  check(mount(root, root, NULL, MS_BIND | MS_REC, NULL), "bind the root");
  check(chdir(root), "chdir");
  check(mount("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "proc");
  check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
  mkdir("dev/pts", 0755), mkdir("dev/shm", 01777), mkdir("dev/mqueue", 0755);
  check(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "devpts");
  check(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k"), "shm");
  check(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "mqueue");
  check(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL), "sysfs");
  static const struct { const char *name; int major, minor; } nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/tty", 5, 0}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
    check(mknod(nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].name);
  check(symlink("/proc/self/fd", "dev/fd"), "symlink");
  check(symlink("pts/ptmx", "dev/ptmx"), "symlink");
  static const char *masked[] = {"proc/acpi", "proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/sched_debug", "sys/firmware", "proc/scsi"};
  for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
    mask(masked[i]);
  static const char *ro[] = {"proc/asound", "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
  for (size_t i = 0; i < sizeof ro / sizeof *ro; i++)
    readonly(ro[i]);
  check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
  check(umount2(".", MNT_DETACH), "detach the old root");
  check(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), "read-only root");
  check(chdir("/"), "chdir");
  check(sethostname("limit", 5), "hostname");
  check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  char *argv[] = {(char *)program, NULL}, *envp[] = {NULL};
  execve(program, argv, envp);
  check(-1, program);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: limit ROOT PROGRAM\n");
    return 2;
  }
  make_cgroups();
  int go[2];
  check(pipe2(go, O_CLOEXEC), "pipe");
  struct clone_args args = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP, .exit_signal = SIGCHLD};
  long pid = syscall(SYS_clone3, &args, sizeof args);
  check(pid, "clone3");
  if (pid == 0)
    child(argv[1], argv[2], go[0]);
  char text[24];
  snprintf(text, sizeof text, "%ld", pid);
  for (int i = 0; i < ncgroups; i++)
    put(cgroups[i], "cgroup.procs", text);
  check(write(go[1], "x", 1), "go");
  int status;
  check(waitpid(pid, &status, 0), "wait");
  for (int i = 0; i < ncgroups; i++)
    rmdir(cgroups[i]);
  return status != 0;
}
