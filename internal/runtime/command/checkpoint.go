package command

import (
	"context"

	"lade/internal/errdefs"
)

// checkpoint and restore are known commands, so that who asks for them learns
// why not.
func (a *app) checkpoint(_ context.Context, args []string) error {
	var words string
	var on bool
	flags := flagSet{
		text("image-path work-path parent-path status-fd page-server manage-cgroups-mode empty-ns", &words),
		text("bundle b", &words), text("console-socket pid-file lsm-profile lsm-mount-context", &words),
		boolean("leave-running tcp-established tcp-skip-in-flight link-remap ext-unix-sk shell-job lazy-pages file-locks pre-dump auto-dedup", &on),
		boolean("detach d", &on), boolean("no-subreaper no-pivot", &on),
	}
	if _, err := flags.parse(args, true); err != nil {
		return err
	}
	return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "this runtime cannot checkpoint and restore containers yet"), "stop the container and start it anew")
}
