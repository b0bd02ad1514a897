package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// familyNice is how much nicer a contained child and its descendants are. It
// keeps a command from disturbing the sound; and as nobody can take it back
// without privileges, it tells orphans of a family from other children.
const familyNice = 10

// sweepLimit is how long the members of a family may take to die.
const sweepLimit = 2 * time.Second

// A family is a contained child (the leader) and all its descendants, also
// those that left its group and session and whose parents are gone.
//
// Where systemd delegates its cgroup to the daemon, a family gets one of its
// own, which the kernel kills in one stroke. In any case members are looked for
// in /proc: by parent, by session, and, for orphans, by the fact that the
// daemon, which adopts them, has not started them itself.
type family struct {
	leader int // pid
	nice   int
	mark   string  // in the environment of all who did not clear it
	cgroup *cgroup // nil where there is none to be had
}

// families are those that run. Adopting orphans (PR_SET_CHILD_SUBREAPER) is a
// property of the whole process, so this is one, too. The lock is held while a
// leader is born, so that none is mistaken for an orphan.
var families struct {
	mu      sync.Mutex
	born    int
	leaders map[int]bool
}

// startFamily starts cmd as the leader of a family. The calling thread must be
// locked and not be used for anything else afterwards: it has become nicer.
func startFamily(cmd *exec.Cmd) (*family, error) {
	families.mu.Lock()
	defer families.mu.Unlock()
	adoptOrphans(true)
	families.born++
	f := &family{nice: becomeNicer(), cgroup: newCgroup(), mark: fmt.Sprintf("LINTOD_FAMILY=%d-%d", os.Getpid(), families.born)}
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], f.mark)
	err := startInside(cmd, f.cgroup)
	if err != nil && f.cgroup != nil {
		// It is ours, but nobody may be born in it: systemd's RestrictNamespaces=
		// refuses clone3(2). What the leader starts before it has moved in is found
		// in /proc.
		if err = startInside(cmd, nil); err != nil || f.cgroup.admit(cmd.Process.Pid) != nil {
			f.cgroup.remove()
			f.cgroup = nil
		}
	}
	if err != nil {
		adoptOrphans(len(families.leaders) > 0)
		return nil, err
	}
	if families.leaders == nil {
		families.leaders = map[int]bool{}
	}
	f.leader = cmd.Process.Pid
	families.leaders[f.leader] = true
	return f, nil
}

func startInside(cmd *exec.Cmd, c *cgroup) error {
	fresh := &exec.Cmd{Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: cmd.Stderr}
	attr := *cmd.SysProcAttr
	attr.Setpgid, attr.Setsid = false, true // a session is a group, too
	if attr.UseCgroupFD = c != nil; attr.UseCgroupFD {
		attr.CgroupFD = int(c.dir.Fd())
	}
	fresh.SysProcAttr = &attr
	err := fresh.Start()
	*cmd = *fresh
	return err
}

func adoptOrphans(yes bool) {
	flag := uintptr(0)
	if yes {
		flag = 1
	}
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, flag, 0, 0, 0)
}

// becomeNicer makes the calling thread, and what it will start, nicer, and
// returns how nice, or -1 where that tells nothing. It also gives the thread an
// umask of its own: what a command writes is for its user alone.
func becomeNicer() int {
	if unix.Unshare(unix.CLONE_FS) == nil {
		unix.Umask(0o077)
	}
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	now := 20 - raw // the system call counts from 40 down to 1
	nice := min(now+familyNice, 19)
	if err != nil || nice <= now || unix.Setpriority(unix.PRIO_PROCESS, 0, nice) != nil {
		return -1
	}
	return nice
}

// signal sends s to each member but the leader.
func (f *family) signal(s syscall.Signal) {
	families.mu.Lock()
	defer families.mu.Unlock()
	members, _ := f.members()
	for _, p := range members {
		_ = syscall.Kill(p.pid, s)
	}
}

// end kills all members. The leader must have ended and not been reaped: its
// number stands for the session. end returns how many were killed, when all of
// them are gone or will not go.
func (f *family) end() int {
	killed := map[int]bool{}
	quiet := 0
	for began := time.Now(); quiet < 2 && time.Since(began) < sweepLimit; {
		pids, doubt := f.sweep()
		for _, pid := range pids {
			killed[pid] = true
		}
		if quiet++; doubt || len(pids) > 0 {
			quiet = 0
		}
		if quiet == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	families.mu.Lock()
	defer families.mu.Unlock()
	f.sweepLocked() // reaps the last
	delete(families.leaders, f.leader)
	adoptOrphans(len(families.leaders) > 0)
	f.cgroup.remove()
	return len(killed)
}

func (f *family) sweep() (killed []int, doubt bool) {
	families.mu.Lock()
	defer families.mu.Unlock()
	return f.sweepLocked()
}

// sweepLocked kills the members that live, and reaps those that the daemon has
// adopted. doubt is whether there may be one more, as members says.
func (f *family) sweepLocked() (killed []int, doubt bool) {
	members, doubt := f.members()
	f.cgroup.kill()
	for _, p := range members {
		switch {
		case !p.zombie:
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
			killed = append(killed, p.pid)
		case p.ppid == os.Getpid():
			_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
		}
	}
	return killed, doubt
}

// members are the present ones, without the leader. doubt is whether there is an
// orphan in the middle of execve(2), which has no environment for that moment.
func (f *family) members() (found []relative, doubt bool) {
	all := relatives()
	in := map[int]bool{f.leader: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !in[p.pid] && (in[p.ppid] || p.sid == f.leader || f.adopted(p)) {
				in[p.pid], grown = true, true
				found = append(found, p)
			}
		}
	}
	for _, p := range all {
		doubt = doubt || !in[p.pid] && f.orphan(p) && p.executing()
	}
	return found, doubt
}

// orphan tells whether p is one of this or another family that left its session.
func (f *family) orphan(p relative) bool {
	return p.ppid == os.Getpid() && f.nice >= 0 && p.nice >= f.nice && !families.leaders[p.pid] && !families.leaders[p.sid]
}

// adopted tells whether p is an orphan of this family. When several families
// run, the environment tells whose it is; one that cleared it ends with the last
// of them.
func (f *family) adopted(p relative) bool {
	return f.orphan(p) && (len(families.leaders) == 1 || p.startedWith(f.mark))
}

// executing tells whether the process is in the middle of execve(2): it has a new
// memory, into which the kernel has not written the arguments and the environment.
// No program has an empty command line afterwards: execve(2) gives it one argument.
func (p relative) executing() bool {
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	return err == nil && len(arguments) == 0 && !p.zombie
}

// startedWith tells whether the process was started with that variable.
func (p relative) startedWith(variable string) bool {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
	return err == nil && bytes.Contains(environ, []byte(variable+"\x00"))
}

// relative is a process as /proc shows it.
type relative struct {
	pid, ppid, sid, nice int
	zombie               bool
}

func relatives() (all []relative) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil && len(names) == 0 {
		return nil
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if stat, err := os.ReadFile("/proc/" + name + "/stat"); err == nil {
			if p, err := parseStat(stat); err == nil && p.pid == pid {
				all = append(all, p)
			}
		}
	}
	return all
}

var errStat = errors.New("not a line of /proc/PID/stat")

// splitStat returns the first field and those from the third, the state, to at
// least the nineteenth. The name between them, in parentheses, may hold anything.
func splitStat(stat []byte) (pid []byte, fields [][]byte, err error) {
	open, last := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || last < open {
		return nil, nil, errStat
	}
	if fields = bytes.Fields(stat[last+1:]); len(fields) < 17 {
		return nil, nil, errStat
	}
	return bytes.TrimSpace(stat[:open]), fields, nil
}

// parseStat reads what proc(5) says of a process.
func parseStat(stat []byte) (p relative, err error) {
	id, fields, err := splitStat(stat)
	if err != nil {
		return p, err
	}
	p.zombie = fields[0][0] == 'Z' || fields[0][0] == 'X'
	for _, f := range []struct {
		to   *int
		text []byte
	}{{&p.pid, id}, {&p.ppid, fields[1]}, {&p.sid, fields[3]}, {&p.nice, fields[16]}} {
		if *f.to, err = strconv.Atoi(string(f.text)); err != nil {
			return p, errStat
		}
	}
	return p, nil
}
