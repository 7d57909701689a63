package script

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// registry starts a registry that ends with the script.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: registry [FILE]")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	addr := l.Addr().String()
	ts.Check(l.Close())
	dir, err := os.MkdirTemp(ts.Getenv("WORK"), "registry")
	ts.Check(err)
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n", dir, addr)
	if len(args) == 1 {
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", ts.MkAbs(args[0]))
	}
	ts.Check(os.WriteFile(dir+"/config.yml", []byte(config), 0o600))
	c := exec.Command("docker-registry", "serve", dir+"/config.yml")
	if err := c.Start(); err != nil {
		ts.Fatalf("%v (script/setup installs it)", err)
	}
	ts.Defer(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	ts.Setenv("REGISTRY", addr)
	// A server that somebody else wrote gives no event when it is ready.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if res, err := http.Get("http://" + addr + "/v2/"); err == nil {
			_ = res.Body.Close()
			return
		}
		<-tick.C
	}
	ts.Fatalf("the registry does not answer")
}
