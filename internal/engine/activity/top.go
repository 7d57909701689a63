package activity

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// Top returns the processes of a container, in the columns that the arguments
// of ps(1) ask for.
func (s *Service) Top(ctx context.Context, ref, args string) (api.TopResponse, error) {
	columns, err := parseColumns(args)
	if err != nil {
		return api.TopResponse{}, err
	}
	t, err := s.containers.Find(ctx, ref)
	if err != nil {
		return api.TopResponse{}, err
	}
	g, err := s.group(t)
	if err != nil {
		return api.TopResponse{}, err
	}
	pids, err := g.Procs()
	if err != nil {
		return api.TopResponse{}, fmt.Errorf("list the processes of container %s: %w", t.Name, err)
	}
	slices.Sort(pids)
	m, err := readMachine()
	if err != nil {
		return api.TopResponse{}, err
	}
	r := api.TopResponse{Processes: [][]string{}}
	for _, c := range columns {
		r.Titles = append(r.Titles, c.title)
	}
	for _, pid := range pids {
		p, err := readProcess(pid)
		if err != nil {
			continue // it ended while we looked
		}
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.value(p, m)
		}
		r.Processes = append(r.Processes, row)
	}
	return r, nil
}

// machine is what is needed to tell of processes.
type machine struct {
	now    time.Time
	boot   time.Time
	memory uint64
}

func readMachine() (machine, error) {
	m := machine{now: time.Now()}
	raw, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return m, err
	}
	var up float64
	if _, err := fmt.Sscan(string(raw), &up); err != nil {
		return m, fmt.Errorf("read /proc/uptime: %w", err)
	}
	m.boot = m.now.Add(-time.Duration(up * float64(time.Second)))
	m.memory, err = totalMemory()
	return m, err
}

// process is what the kernel says of one.
type process struct {
	pid, ppid, pgid, sid, uid, gid int
	comm, args, state, tty         string
	time                           time.Duration // on the processors
	began                          time.Duration // since the machine started
	vsz, rss                       uint64        // bytes
	nice, threads                  int
}

func readProcess(pid int) (process, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	raw, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, err
	}
	p, err := parseStat(raw)
	if err != nil {
		return p, err
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return p, err
	}
	for line := range strings.Lines(string(status)) {
		key, rest, _ := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if len(f) < 2 || key != "Uid" && key != "Gid" {
			continue
		}
		n, err := strconv.Atoi(f[1]) // the effective one
		if err != nil {
			return p, err
		}
		if key == "Uid" {
			p.uid = n
		} else {
			p.gid = n
		}
	}
	cmdline, err := os.ReadFile(dir + "/cmdline")
	p.args = strings.TrimSpace(string(bytes.ReplaceAll(bytes.TrimRight(cmdline, "\x00"), []byte{0}, []byte{' '})))
	if p.args == "" {
		p.args = "[" + p.comm + "]"
	}
	return p, err
}

// parseStat reads /proc/PID/stat, see proc_pid_stat(5). The name, in brackets,
// may hold anything; what follows the last one not.
func parseStat(raw []byte) (process, error) {
	var p process
	first, last := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if first < 0 || last < first {
		return p, errdefs.New(errdefs.DataLoss, "the kernel's line on a process has no name")
	}
	f := strings.Fields(string(raw[last+1:]))
	const fields = 22 // from the state to rss
	if len(f) < fields {
		return p, errdefs.New(errdefs.DataLoss, "the kernel's line on a process has %d fields", len(f))
	}
	const tick, page = 10 * time.Millisecond, 4096
	n := func(i int) int64 {
		v, _ := strconv.ParseInt(f[i-3], 10, 64) // numbered as in the manual page
		return v
	}
	p.comm, p.state = string(raw[first+1:last]), f[0]
	p.pid, _ = strconv.Atoi(strings.TrimSpace(string(raw[:first])))
	p.ppid, p.pgid, p.sid = int(n(4)), int(n(5)), int(n(6))
	p.tty = terminal(n(7))
	p.time = time.Duration(n(14)+n(15)) * tick
	p.nice, p.threads = int(n(19)), int(n(20))
	p.began = time.Duration(n(22)) * tick
	p.vsz, p.rss = uint64(n(23)), uint64(n(24))*page
	return p, nil
}

// terminal names a terminal by its device number.
func terminal(dev int64) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return "?"
	case major >= 136 && major < 144:
		return fmt.Sprintf("pts/%d", (major-136)<<8|minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

// column is one of ps.
type column struct {
	title string
	value func(process, machine) string
}

// owner is a user's name on the host, or the number.
func owner(p process, _ machine) string {
	id := strconv.Itoa(p.uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

func short(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// start is when a process began: the time of day, or the day.
func start(p process, m machine) string {
	at := m.boot.Add(p.began)
	if m.now.Sub(at) < 24*time.Hour {
		return at.Format("15:04")
	}
	return at.Format("Jan02")
}

// cpu is the share of one processor that a process had, in percent.
func cpu(p process, m machine) float64 {
	up := m.now.Sub(m.boot.Add(p.began))
	if up <= 0 {
		return 0
	}
	return 100 * float64(p.time) / float64(up)
}

func elapsed(p process, m machine) string {
	s := int(m.now.Sub(m.boot.Add(p.began)).Seconds())
	text := fmt.Sprintf("%02d:%02d", s/60%60, s%60)
	if s >= 3600 {
		text = fmt.Sprintf("%02d:%s", s/3600%24, text)
	}
	if s >= 86400 {
		text = fmt.Sprintf("%d-%s", s/86400, text)
	}
	return text
}

// known returns the columns by the names that `ps -o` has for them.
func known() map[string]column {
	number := func(title string, of func(process) int) column {
		return column{title, func(p process, _ machine) string { return strconv.Itoa(of(p)) }}
	}
	text := func(title string, of func(process) string) column {
		return column{title, func(p process, _ machine) string { return of(p) }}
	}
	args := func(p process) string { return p.args }
	user := column{"USER", owner}
	pcpu := column{"%CPU", func(p process, m machine) string { return fmt.Sprintf("%.1f", cpu(p, m)) }}
	pmem := column{"%MEM", func(p process, m machine) string { return fmt.Sprintf("%.1f", 100*float64(p.rss)/float64(m.memory)) }}
	vsz := number("VSZ", func(p process) int { return int(p.vsz >> 10) })
	rss := number("RSS", func(p process) int { return int(p.rss >> 10) })
	tty := text("TT", func(p process) string { return p.tty })
	spent := text("TIME", func(p process) string { return clock(p.time) })
	state := text("STAT", func(p process) string { return p.state })
	return map[string]column{
		"pid": number("PID", func(p process) int { return p.pid }), "ppid": number("PPID", func(p process) int { return p.ppid }),
		"pgid": number("PGID", func(p process) int { return p.pgid }), "sid": number("SID", func(p process) int { return p.sid }),
		"uid": number("UID", func(p process) int { return p.uid }), "gid": number("GID", func(p process) int { return p.gid }),
		"user": user, "euser": {"EUSER", owner}, "uname": user,
		"comm": text("COMMAND", func(p process) string { return p.comm }), "ucmd": text("CMD", func(p process) string { return p.comm }),
		"args": text("COMMAND", args), "command": text("COMMAND", args), "cmd": text("CMD", args),
		"pcpu": pcpu, "%cpu": pcpu, "pmem": pmem, "%mem": pmem, "vsz": vsz, "vsize": vsz, "rss": rss, "rssize": rss,
		"tty": tty, "tt": tty, "tname": text("TTY", func(p process) string { return p.tty }), "time": spent, "cputime": spent, "etime": {"ELAPSED", elapsed},
		"stat": state, "state": text("S", func(p process) string { return p.state }), "s": text("S", func(p process) string { return p.state }),
		"ni": number("NI", func(p process) int { return p.nice }), "nice": number("NI", func(p process) int { return p.nice }),
		"nlwp": number("NLWP", func(p process) int { return p.threads }), "thcount": number("THCNT", func(p process) int { return p.threads }),
		"stime": {"STIME", start}, "start": {"START", start}, "start_time": {"START", start},
	}
}

// parseColumns reads arguments of ps: the forms -ef, aux and -o LIST, alone or
// with others that choose processes, which is the container's part here.
func parseColumns(args string) ([]column, error) {
	all := known()
	var chosen []string
	full, bsd := false, false
	words := strings.Fields(args)
	for i := 0; i < len(words); i++ {
		w := words[i]
		list, isList := "", false
		switch {
		case w == "-o" || w == "o" || w == "-eo" || w == "-Ao" || w == "--format" || w == "axo":
			if i++; i == len(words) {
				return nil, errdefs.New(errdefs.Invalid, "ps: %s needs a list of columns", w)
			}
			list, isList = words[i], true
		case strings.HasPrefix(w, "-o") || strings.HasPrefix(w, "--format="):
			list, isList = strings.TrimPrefix(strings.TrimPrefix(w, "-o"), "--format="), true
		case strings.Trim(w, "-eAfFwHax") == "" && strings.HasPrefix(w, "-"):
			full = full || strings.ContainsAny(w, "fF")
		case strings.Trim(w, "auxw") == "":
			bsd = bsd || strings.Contains(w, "u")
		default:
			return nil, errdefs.Hint(errdefs.New(errdefs.Invalid, "ps: argument %q is not known", w), "use -ef, aux, or -o with a list of columns")
		}
		if isList {
			chosen = append(chosen, strings.Split(list, ",")...)
		}
	}
	var out []column
	for _, name := range chosen {
		name, title, renamed := strings.Cut(strings.ToLower(name), "=")
		c, ok := all[name]
		if !ok {
			return nil, errdefs.New(errdefs.Invalid, "ps: column %q is not known", name)
		}
		if renamed {
			c.title = strings.ToUpper(title)
		}
		out = append(out, c)
	}
	if len(out) > 0 {
		return out, nil
	}
	rename := func(name, title string) column { return column{title, all[name].value} }
	if bsd {
		small := column{"TIME", func(p process, _ machine) string { return short(p.time) }}
		return []column{all["user"], all["pid"], all["pcpu"], all["pmem"], all["vsz"], all["rss"], all["tname"], all["stat"], all["start"], small, all["args"]}, nil
	}
	if full || len(words) == 0 {
		share := column{"C", func(p process, m machine) string { return strconv.Itoa(int(cpu(p, m))) }}
		return []column{rename("user", "UID"), all["pid"], all["ppid"], share, all["stime"], all["tname"], all["time"], all["cmd"]}, nil
	}
	return []column{all["pid"], all["tname"], all["time"], rename("comm", "CMD")}, nil
}
