package container

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/words"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/shim"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

// TestWaitGoesOn checks that a wait which began in another engine has an answer
// if what it waits for came in between.
func TestWaitGoesOn(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	id := m.create("app", nil)
	begin := func(since string) Waiting {
		t.Helper()
		w, err := m.service.Wait(t.Context(), id, api.WaitConditionNextExit, since)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	created := begin("").Since
	if err := m.service.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	running := begin("").Since
	first, second := begin(created), begin(running)
	for _, w := range []Waiting{first, second} {
		select {
		case r := <-w.Answer:
			t.Fatalf("%s: answer %+v while it runs", w.Since, r)
		default:
		}
	}
	m.ends(id, shim.Exit{Code: 3})
	m.settled(id)
	for _, w := range []Waiting{first, second, begin(created), begin(running)} {
		if r := receive(t, w.Answer); r.StatusCode != 3 {
			t.Errorf("%s: answer %+v, want code 3", w.Since, r)
		}
	}
	exited := begin("").Since
	if err := m.service.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	again := begin(exited)
	if r := receive(t, begin(running).Answer); r.Error != nil {
		t.Errorf("a run later: %+v", r)
	}
	m.ends(id, shim.Exit{Code: 4})
	if r := receive(t, again.Answer); r.StatusCode != 4 {
		t.Errorf("the next run: %+v, want code 4", r)
	}
	m.settled(id)
}

func TestLife(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	id := m.create("app1", nil)
	if st := m.state("app1"); st.Status != api.StateCreated || st.Running {
		t.Errorf("after create: %+v", st)
	}
	next := m.wait(id, api.WaitConditionNextExit)
	if err := m.service.Start(t.Context(), "app1"); err != nil {
		t.Fatal(err)
	}
	if st := m.state(id[:12]); st.Status != api.StateRunning || st.Pid == 0 {
		t.Errorf("after start: %+v", st)
	}
	if err := m.service.Start(t.Context(), id); !errdefs.Is(err, errdefs.NotModified) {
		t.Errorf("second start: %v", err)
	}
	if err := m.service.Remove(t.Context(), id, RemoveOptions{}); !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "container is running: stop the container before removing or force remove") {
		t.Errorf("remove of a running container: %v", err)
	}
	notRunning := m.wait(id, "")
	m.ends(id, shim.Exit{Code: 3, OOMKilled: true})
	for _, ch := range []<-chan api.WaitResponse{next, notRunning, m.wait(id, api.WaitConditionNotRunning)} {
		if r := receive(t, ch); r.StatusCode != 3 || r.Error != nil {
			t.Errorf("answer %+v, want code 3", r)
		}
	}
	m.settled(id)
	if st := m.state(id); st.Status != api.StateExited || st.ExitCode != 3 || !st.OOMKilled || st.Pid != 0 {
		t.Errorf("after exit: %+v", st)
	}
	if err := m.service.Stop(t.Context(), id, StopOptions{}); !errdefs.Is(err, errdefs.NotModified) {
		t.Errorf("stop of a stopped container: %v", err)
	}
	if err := m.service.Kill(t.Context(), id, ""); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("kill of a stopped container: %v", err)
	}
	if err := m.service.Remove(t.Context(), id, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.service.Inspect(t.Context(), id, false); !errdefs.Is(err, errdefs.NotFound) || err.Error() != "No such container: "+id {
		t.Errorf("inspect after remove: %v", err)
	}
	if d := cmp.Diff([]string(nil), m.left()); d != "" || len(m.pins) != 0 {
		t.Errorf("left behind: %s pins %v", d, m.pins)
	}
}

func TestBundle(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	id := m.run("web", func(r *api.CreateRequest) {
		r.User, r.Env, r.Cmd = "app", []string{"A=1", "SECRET=mine"}, []string{"serve", "-x"}
		r.HostConfig.NetworkMode = "bridge"
		r.HostConfig.ExtraHosts = []string{"db:10.0.0.9"}
	})
	raw, err := os.ReadFile(filepath.Join(m.dir, "state/containers", id, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	wantEnv := []string{"PATH=/bin", "HOSTNAME=" + ident.Short(id), "A=1", "SECRET=mine", "HOME=/home/app"}
	if d := cmp.Diff(wantEnv, s.Process.Env); d != "" {
		t.Errorf("environment (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"serve", "-x"}, s.Process.Args); d != "" {
		t.Error(d)
	}
	if s.Process.User.UID != 1000 || len(s.Process.Capabilities.Effective) != 0 || len(s.Process.Capabilities.Inheritable) != 0 {
		t.Errorf("user %+v, capabilities %+v", s.Process.User, s.Process.Capabilities)
	}
	base := s.Linux.UIDMappings[0].HostID
	if base < 0x30000000 || base >= 0x70000000 || s.Linux.UIDMappings[0].Size != 65536 {
		t.Errorf("mapping %+v", s.Linux.UIDMappings)
	}
	hosts := filepath.Join(m.dir, "data/containers", id, "hosts")
	text, err := os.ReadFile(hosts)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.76.0.2\t" + ident.Short(id) + "\n", "10.0.0.9\tdb\n", "127.0.0.1\tlocalhost\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("/etc/hosts lacks %q:\n%s", want, text)
		}
	}
	st, err := os.Stat(hosts)
	if err != nil {
		t.Fatal(err)
	}
	if owner := st.Sys().(*syscall.Stat_t).Uid; owner != base {
		t.Errorf("/etc/hosts belongs to %d, want the container's root %d", owner, base)
	}
	if m.nets.attached[id] == 0 {
		t.Error("not connected")
	}
	m.ends(id, shim.Exit{})
	m.settled(id)
	if m.nets.attached[id] != 0 {
		t.Error("still connected")
	}
}

func TestStartFails(t *testing.T) {
	kerneltest.Root(t)
	for _, tt := range []struct {
		at   string
		err  error
		code int
		want errdefs.Class
	}{
		{"launch", errors.New("fork: out of memory"), 128, errdefs.Internal},
		{"create", errors.New(`exec: "nosuch": executable file not found in $PATH`), 127, errdefs.Invalid},
		{"create", errors.New(`exec: "/etc/passwd": permission denied`), 126, errdefs.Invalid},
		{"start", errors.New("no"), 128, errdefs.Internal},
	} {
		t.Run(tt.at, func(t *testing.T) {
			m := newMachine(t)
			m.shims.failAt, m.shims.fail = tt.at, tt.err
			bridge := func(r *api.CreateRequest) { r.HostConfig.NetworkMode = "bridge" }
			id := m.create("app", bridge)
			err := m.service.Start(t.Context(), id)
			if err == nil || !strings.Contains(err.Error(), tt.err.Error()) || errdefs.ClassOf(err) != tt.want {
				t.Errorf("start: %v (%v)", err, errdefs.ClassOf(err))
			}
			st := m.state(id)
			if st.Status != api.StateCreated || st.ExitCode != tt.code || !strings.Contains(st.Error, tt.err.Error()) {
				t.Errorf("state %+v, want exit code %d", st, tt.code)
			}
			if _, err := os.Stat(filepath.Join(m.dir, "state/containers", id)); err == nil {
				t.Error("the bundle was left")
			}
			if len(m.nets.attached) != 0 {
				t.Error("the network was left")
			}
			// One that is to be removed when it ends is removed now.
			gone := m.create("gone", func(r *api.CreateRequest) { bridge(r); r.HostConfig.AutoRemove = true })
			removed := m.wait(gone, api.WaitConditionRemoved)
			if err := m.service.Start(t.Context(), gone); err == nil {
				t.Error("it started")
			}
			if r := receive(t, removed); int(r.StatusCode) != tt.code || r.Error != nil {
				t.Errorf("answer %+v, want %d", r, tt.code)
			}
			// And it can be tried again.
			m.shims.failAt = ""
			if err := m.service.Start(t.Context(), id); err != nil {
				t.Error(err)
			}
			if st := m.state(id); st.Error != "" || st.ExitCode != 0 || !st.Running {
				t.Errorf("after the second try: %+v", st)
			}
		})
	}
}

// TestStartAwaitsClients: a client knows of its attachment before the service
// has it, and asks for the start on another connection.
func TestStartAwaitsClients(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	id := m.create("app", nil)
	started := make(chan error, 1)
	err := m.service.Attach(t.Context(), id, AttachOptions{Stdout: true, Stream: true}, func(bool) (*os.File, []byte, error) {
		go func() { started <- m.service.Start(t.Context(), id) }()
		select { // the start has every chance to go ahead
		case err := <-started:
			t.Errorf("it started without its client: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		f, err := os.Open(os.DevNull)
		return f, nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if n := len(m.shimOf(id).attach); n != 1 {
		t.Errorf("%d clients were attached at the start, want 1", n)
	}
}

func TestStop(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	zero, one := 0, 1
	for _, tt := range []struct {
		name    string
		ignore  bool
		o       StopOptions
		change  func(*api.CreateRequest)
		signals []int
	}{
		{"the image's signal", false, StopOptions{}, nil, []int{3}},
		{"the request's signal", false, StopOptions{Signal: "USR1"}, nil, []int{10}},
		{"the container's signal", false, StopOptions{}, func(r *api.CreateRequest) { r.StopSignal = "SIGINT" }, []int{2}},
		{"killed when it ignores it", true, StopOptions{Timeout: &one}, nil, []int{3, 9}},
		{"killed at once", true, StopOptions{Timeout: &zero}, nil, []int{3, 9}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := m.run("", tt.change)
			s := m.shimOf(id)
			s.ignore = tt.ignore
			if err := m.service.Stop(t.Context(), id, tt.o); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.signals, s.got); d != "" {
				t.Errorf("signals (-want +got):\n%s", d)
			}
			if st := m.state(id); st.Running {
				t.Errorf("%+v", st)
			}
		})
	}
	id := m.run("again", nil)
	if err := m.service.Restart(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if st := m.state(id); !st.Running {
		t.Errorf("after restart: %+v", st)
	}
	if err := m.service.Remove(t.Context(), id, RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}

func TestNames(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	id := m.create("one", nil)
	req := api.CreateRequest{Config: &api.Config{Image: "app"}}
	for name, want := range map[string]string{
		"one":  `Conflict. The container name "/one" is already in use by container "` + id + `". You have to remove (or rename) that container to be able to reuse that name.`,
		"/one": `Conflict. The container name "/one" is already in use by container "` + id + `". You have to remove (or rename) that container to be able to reuse that name.`,
		"a b":  "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
		"x":    "Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
	} {
		if _, err := m.service.Create(t.Context(), name, req, ""); err == nil || err.Error() != want {
			t.Errorf("name %q: %v\nwant %s", name, err, want)
		}
	}
	if err := m.service.Rename(t.Context(), "one", "two"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.service.Inspect(t.Context(), "one", false); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("the old name still leads somewhere: %v", err)
	}
	m.restart()
	r, err := m.service.Inspect(t.Context(), "two", false)
	if err != nil || r.ID != id || r.Name != "/two" {
		t.Errorf("after a restart: %v %v", r.Name, err)
	}
	m.create("one", nil)
	for range 40 { // two ids begin alike, sooner or later
		m.create("", nil)
	}
	first := map[byte]int{}
	for _, c := range m.service.table.All() {
		id := c.id
		first[id[0]]++
	}
	for c, n := range first {
		if n > 1 && !strings.Contains("one two", string(c)) {
			if _, err := m.service.Inspect(t.Context(), string(c), false); !errdefs.Is(err, errdefs.Invalid) {
				t.Errorf("ambiguous prefix %q: %v", c, err)
			}
		}
	}
}

// TestAdopt kills the engine and looks at what the next one makes of it.
func TestAdopt(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	running := m.run("running", nil)
	rm := m.run("rm", func(r *api.CreateRequest) { r.HostConfig.AutoRemove = true })
	ended := m.run("ended", nil)
	lost := m.run("lost", nil)
	rmEnded := m.run("rm-ended", func(r *api.CreateRequest) { r.HostConfig.AutoRemove = true })
	never := m.create("never", nil)
	base := func(id string) uint32 { c, _ := m.service.table.Get(id); d, _ := c.view(); return d.IDBase }
	before := map[string]uint32{running: base(running), never: base(never)}
	m.crash()
	m.ends(ended, shim.Exit{Code: 5})
	m.ends(rmEnded, shim.Exit{Code: 6})
	m.dies(lost)
	m.start()
	for id, want := range map[string]struct {
		status api.ContainerState
		code   int
	}{
		running: {api.StateRunning, 0},
		rm:      {api.StateRunning, 0},
		ended:   {api.StateExited, 5},
		lost:    {api.StateRunning, 0}, // its process is this test's, which lives
		never:   {api.StateCreated, 0},
	} {
		st := m.state(id)
		if st.Status != want.status || st.ExitCode != want.code {
			t.Errorf("%s: %+v, want %+v", ident.Short(id), st, want)
		}
	}
	if _, err := m.service.Inspect(t.Context(), rmEnded, false); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("--rm container that ended while no engine ran: %v", err)
	}
	for id, b := range before {
		if base(id) != b {
			t.Errorf("%s: ids moved from %d to %d", ident.Short(id), b, base(id))
		}
	}
	if !m.pins[running] || !m.pins[never] || m.pins[rmEnded] {
		t.Errorf("pins: %v", m.pins)
	}
	// What was adopted is watched.
	exit := m.wait(running, "")
	m.ends(running, shim.Exit{Code: 9})
	if r := receive(t, exit); r.StatusCode != 9 {
		t.Errorf("answer %+v", r)
	}
}

// TestAdoptLost: nobody saw the end, and the process is gone.
func TestAdoptLost(t *testing.T) {
	kerneltest.Root(t)
	for _, reboot := range []bool{false, true} {
		m := newMachine(t)
		id := m.run("lost", nil)
		c, _ := m.service.table.Get(id)
		if err := m.service.records.Flush(); err != nil { // as it happens half a second later
			t.Fatal(err)
		}
		d, st := c.view()
		st.PIDStart++ // another process has the id now
		if err := m.service.records.PutState(d, st); err != nil {
			t.Fatal(err)
		}
		m.crash()
		m.dies(id)
		if reboot {
			m.boot = "boot-2"
		}
		m.start()
		got := m.state(id)
		if got.Status != api.StateExited || got.ExitCode != 255 || !strings.Contains(got.Error, "unknown") {
			t.Errorf("reboot %t: %+v; want exited, 255, unknown", reboot, got)
		}
		if !strings.Contains(m.runtimeCalls(), "delete --force "+id) {
			t.Errorf("the runtime was not told: %q", m.runtimeCalls())
		}
	}
}

// TestAdoptHalfStarted: the engine died between the runtime's create and start.
func TestAdoptHalfStarted(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	id := m.run("half", func(r *api.CreateRequest) { r.HostConfig.NetworkMode = "bridge" })
	c, _ := m.service.table.Get(id)
	d, _ := c.view()
	st := c.state
	st.Status, st.PID = api.StateCreated, 0
	if err := m.service.records.PutState(d, st); err != nil {
		t.Fatal(err)
	}
	m.crash()
	s := m.shimOf(id)
	s.status = shim.StatusCreated
	m.start()
	if got := m.state(id); got.Status != api.StateCreated {
		t.Errorf("%+v; want created", got)
	}
	if d := cmp.Diff([]int{9}, s.got); d != "" {
		t.Errorf("signals (-want +got):\n%s", d)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "state/containers", id)); err == nil {
		t.Error("the bundle was left")
	}
}

func TestSweep(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	keep := m.run("keep", nil)
	m.crash()
	stray := ident.New()
	for _, p := range []string{"data/containers/" + stray + "/upper/file", "state/containers/" + stray + "/rootfs"} {
		if err := os.MkdirAll(filepath.Join(m.dir, p), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.start()
	for _, p := range m.left() {
		if strings.Contains(p, stray) {
			t.Errorf("%s was left", p)
		}
	}
	if st := m.state(keep); !st.Running {
		t.Errorf("%+v", st)
	}
}

func TestList(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	a := m.run("aa", func(r *api.CreateRequest) { r.Labels = map[string]string{"tier": "web", "x": "1"} })
	b := m.create("bb", func(r *api.CreateRequest) { r.Image = "other"; r.Labels = map[string]string{"tier": "db"} })
	c := m.run("cc", nil)
	m.ends(c, shim.Exit{Code: 4})
	m.settled(c)
	name := map[string]string{a: "aa", b: "bb", c: "cc"}
	for _, tt := range []struct {
		o    ListOptions
		want []string
	}{
		{ListOptions{}, []string{"aa"}},
		{ListOptions{All: true}, []string{"cc", "bb", "aa"}},
		{ListOptions{Limit: 1}, []string{"cc"}},
		{ListOptions{Filters: map[string][]string{"status": {"exited"}}}, []string{"cc"}},
		{ListOptions{Filters: map[string][]string{"status": {"exited", "created"}}}, []string{"cc", "bb"}},
		{ListOptions{Filters: map[string][]string{"exited": {"4"}}}, []string{"cc"}},
		{ListOptions{All: true, Filters: map[string][]string{"name": {"^a", "bb$"}}}, []string{"bb", "aa"}},
		{ListOptions{All: true, Filters: map[string][]string{"name": {"^/aa$"}}}, []string{"aa"}},
		{ListOptions{All: true, Filters: map[string][]string{"label": {"tier=web"}}}, []string{"aa"}},
		{ListOptions{All: true, Filters: map[string][]string{"label": {"tier", "x=1"}}}, []string{"aa"}},
		{ListOptions{All: true, Filters: map[string][]string{"label": {"of=image"}}}, []string{"cc", "bb", "aa"}},
		{ListOptions{All: true, Filters: map[string][]string{"ancestor": {"other"}}}, []string{"bb"}},
		{ListOptions{All: true, Filters: map[string][]string{"id": {a[:8]}}}, []string{"aa"}},
		{ListOptions{All: true, Filters: map[string][]string{"before": {"bb"}}}, []string{"aa"}},
		{ListOptions{All: true, Filters: map[string][]string{"since": {"bb"}}}, []string{"cc"}},
		{ListOptions{All: true, Filters: map[string][]string{"network": {"none"}, "volume": {"/nope"}}}, nil},
		{ListOptions{All: true, Filters: map[string][]string{"expose": {"80"}}}, []string{"cc", "bb", "aa"}},
	} {
		list, err := m.service.List(t.Context(), tt.o)
		if err != nil {
			t.Errorf("%+v: %v", tt.o, err)
		}
		var got []string
		for _, x := range list {
			got = append(got, name[x.ID])
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.o, d)
		}
	}
	for _, bad := range []map[string][]string{{"nope": {"x"}}, {"status": {"x"}}, {"name": {"("}}, {"exited": {"x"}}, {"before": {"nobody"}}} {
		if _, err := m.service.List(t.Context(), ListOptions{Filters: bad}); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

func TestStatusText(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		state api.ContainerState
		code  int
		want  string
	}{
		{api.StateCreated, 0, "Created"},
		{api.StateRunning, 0, "Up 3 minutes"},
		{api.StatePaused, 0, "Up 3 minutes (Paused)"},
		{api.StateExited, 137, "Exited (137) 2 hours ago"},
		{api.StateDead, 0, "Dead"},
	} {
		c := newContainer(testDefinition(), testState(tt.state, tt.code, now))
		_, st := c.view()
		if got := words.Status(st, now); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.state, got, tt.want)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	for want, change := range map[string]func(*api.CreateRequest){
		"No such image: missing":             func(r *api.CreateRequest) { r.Image = "missing" },
		"Minimum memory limit allowed":       func(r *api.CreateRequest) { r.HostConfig.Memory = 1000 },
		"unknown or invalid runtime name: x": func(r *api.CreateRequest) { r.HostConfig.Runtime = "x" },
		"CAP_NOPE":                           func(r *api.CreateRequest) { r.HostConfig.CapAdd = []string{"NOPE"} },
		"No such container: nobody":          func(r *api.CreateRequest) { r.HostConfig.NetworkMode = "container:nobody" },
		"uids and gids must be in range":     func(r *api.CreateRequest) { r.User = "4294967296" },
		"bind source path does not exist": func(r *api.CreateRequest) {
			r.HostConfig.Mounts = append(r.HostConfig.Mounts, bindMount("/no/such", "/x"))
		},
		"Decoding seccomp profile failed": func(r *api.CreateRequest) { r.HostConfig.SecurityOpt = []string{"seccomp=/etc/profile.json"} },
	} {
		req := api.CreateRequest{Config: &api.Config{Image: "app"}, HostConfig: &api.HostConfig{}}
		change(&req)
		if _, err := m.service.Create(t.Context(), "", req, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if _, err := m.service.Create(t.Context(), "", api.CreateRequest{}, ""); err == nil {
		t.Error("an empty request was taken")
	}
	if _, err := m.service.Create(t.Context(), "", api.CreateRequest{Config: &api.Config{Image: "app"}}, "linux/arm64"); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("an image of another platform: %v", err)
	}
	things, names := m.service.table.Len()
	if n := things + names + len(m.pins); n != 0 {
		t.Errorf("%d things were left of refused requests", n)
	}
}

func TestUserNamespaces(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	base := func(id string) (uint32, string) {
		c, _ := m.service.table.Get(id)
		d, _ := c.view()
		return d.IDBase, d.NoUserNS
	}
	seen := map[uint32]bool{}
	for range 50 {
		b, _ := base(m.create("", nil))
		if b == 0 || b%65536 != 0 || seen[b] {
			t.Fatalf("base %#x", b)
		}
		seen[b] = true
	}
	owner := m.run("owner", nil)
	ownerBase, _ := base(owner)
	sharer := m.create("", func(r *api.CreateRequest) { r.HostConfig.NetworkMode = "container:owner" })
	if b, _ := base(sharer); b != ownerBase {
		t.Errorf("who shares a network has ids from %#x, not %#x", b, ownerBase)
	}
	for why, change := range map[string]func(*api.HostConfig){
		"--privileged":   func(h *api.HostConfig) { h.Privileged = true },
		"--userns=host":  func(h *api.HostConfig) { h.UsernsMode = "host" },
		"--network=host": func(h *api.HostConfig) { h.NetworkMode = "host" },
		"--pid=host":     func(h *api.HostConfig) { h.PidMode = "host" },
		"--ipc=host":     func(h *api.HostConfig) { h.IpcMode = "host" },
	} {
		id := m.create("", func(r *api.CreateRequest) { change(r.HostConfig) })
		if b, got := base(id); b != 0 || got != why {
			t.Errorf("%s: base %#x because %q", why, b, got)
		}
	}
	// A range is free again only when its last user is gone.
	m.ends(owner, shim.Exit{})
	m.settled(owner)
	if err := m.service.Remove(t.Context(), owner, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	m.restart()
	if b, _ := base(sharer); b != ownerBase {
		t.Errorf("base moved to %#x", b)
	}
}
