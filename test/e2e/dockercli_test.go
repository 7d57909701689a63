package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDockerCommands runs Docker's own command line through the commands that
// there are, and looks at what it prints and how it ends.
func TestDockerCommands(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("docker's command line is not installed")
	}
	h := newHost(t)
	work := t.TempDir()
	if err := os.WriteFile(filepath.Join(work, "file"), []byte("from the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Each line is what is typed, its exit status, and a part of what it prints.
	for _, step := range []struct {
		line string
		code int
		want string
	}{
		{"volume create --label a=b data", 0, "data"},
		{"volume ls --filter label=a -q", 0, "data"},
		{"volume inspect -f {{.Driver}} data", 0, "local"},
		{"network create --subnet 10.213.7.0/24 --label a=b apart", 0, ""},
		{"network ls --filter label=a --format {{.Name}}", 0, "apart"},
		{"network inspect -f '{{(index .IPAM.Config 0).Subnet}}' apart", 0, "10.213.7.0/24"},
		{"create --name web --network apart -v data:/data -p 127.0.0.1::80 lade/toolbox sh -c 'echo up; sleep 1000'", 0, ""},
		{"start web", 0, "web"},
		{"ps --filter name=web --format {{.Names}}:{{.State}}", 0, "web:running"},
		{"port web 80/tcp", 0, "127.0.0.1:"},
		{"inspect -f {{.NetworkSettings.Networks.apart.IPAddress}} web", 0, "10.213.7."},
		{"exec web sh -c 'echo kept >/data/word; echo new >/made'", 0, ""},
		{"exec -e A=5 -w /data web sh -c 'echo $A; pwd; cat word'", 0, "5\n/data\nkept"},
		{"exec web sh -c 'exit 7'", 7, ""},
		{"exec web nothing-of-that-name", 127, "nothing-of-that-name"},
		{"cp file web:/copied", 0, ""},
		{"exec web cat /copied", 0, "from the host"},
		{"cp web:/data/word back", 0, ""},
		{"cp web:/nowhere back", 1, "nowhere"},
		{"diff web", 0, "A /made"},
		{"top web", 0, "sleep 1000"},
		{"stats --no-stream --format {{.Name}} web", 0, "web"},
		{"logs --tail 1 web", 0, "up"},
		{"rename web site", 0, ""},
		{"inspect --type container -f {{.Name}} site", 0, "/site"},
		{"pause site", 0, "site"},
		{"inspect -f {{.State.Paused}} site", 0, "true"},
		{"unpause site", 0, "site"},
		{"network connect bridge site", 0, ""},
		{"network disconnect bridge site", 0, ""},
		{"network rm apart", 1, "apart"},
		{"volume rm data", 1, "in use"},
		{"restart -t 0 site", 0, "site"},
		{"wait nobody", 1, "No such container: nobody"},
		{"commit -m message -c 'ENV X=y' site kept:1", 0, "sha256:"},
		{"run --rm --network none kept:1 sh -c 'cat /made; echo $X'", 0, "new\ny"},
		{"history -q kept:1", 0, ""},
		{"tag kept:1 kept:2", 0, ""},
		{"images --filter reference=kept --format {{.Tag}}", 0, "2\n"},
		{"save -o kept.tar kept:1", 0, ""},
		{"rmi kept:1 kept:2", 0, "Untagged: kept:1"},
		{"load -i kept.tar", 0, "kept:1"},
		{"image inspect -f {{.Config.Env}} kept:1", 0, "X=y"},
		{"export -o site.tar site", 0, ""},
		{"import site.tar flat:1", 0, "sha256:"},
		{"run --rm --network none flat:1 cat /made", 0, "new"},
		{"events --since 10m --until -1s --filter event=rename --format {{.Action}}", 0, "rename"},
		{"run -d --name sick --network none --health-cmd true --health-interval 100ms lade/toolbox sleep 1000", 0, ""},
		{"inspect -f {{.Config.Healthcheck.Test}} sick", 0, "CMD-SHELL true"},
		{"kill -s KILL sick", 0, "sick"},
		{"wait sick", 0, "137"},
		{"rm sick", 0, "sick"},
		{"update --memory 64m --memory-swap 128m site", 0, "site"},
		{"inspect -f {{.HostConfig.Memory}} site", 0, "67108864"},
		{"system df", 0, "Images"},
		{"system df -v", 0, "kept"},
		{"stop -t 0 site", 0, "site"},
		{"container prune -f", 0, "Deleted Containers"},
		{"network prune -f", 0, "apart"},
		{"volume prune -af", 0, "data"},
		{"image prune -af --filter label=none", 0, "Total reclaimed space: 0B"},
		{"system prune -af --volumes", 0, "Total reclaimed space"},
		{"run --rm --gpus all lade/toolbox", 125, "could not select device driver"},
		{"run --rm --device no.such/kind=x lade/toolbox", 125, "unresolvable CDI devices no.such/kind=x"},
		{"swarm init", 1, ""},
		{"ps --filter nothing=1", 1, "nothing"},
		{"run --rm --network nowhere lade/toolbox", 125, "nowhere"},
		{"info --format {{.CgroupVersion}}", 0, ""},
		{"context ls -q", 0, "default"},
	} {
		c := exec.Command("sh", "-c", docker+" "+step.line)
		c.Dir = work
		c.Env = append(h.env, "DOCKER_HOST=unix://"+h.dir+"/s/lade.sock", "DOCKER_CONFIG="+work)
		out, err := c.CombinedOutput()
		if err != nil && c.ProcessState == nil {
			t.Fatal(err)
		}
		if got := c.ProcessState.ExitCode(); got != step.code || !strings.Contains(string(out), step.want) {
			t.Errorf("docker %s: status %d, want %d with %q:\n%s", step.line, got, step.code, step.want, out)
		}
	}
	back, err := os.ReadFile(filepath.Join(work, "back"))
	if err != nil || string(back) != "kept\n" {
		t.Errorf("copied back %q, %v", back, err)
	}
}
