package daemon

import (
	"context"
	"io"
	"strings"

	"github.com/moby/moby/api/types/events"
	imageapi "github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine/image"
	"lade/internal/engine/registry"
	"lade/internal/reference"
	"lade/internal/transfer"
)

// teller passes on what happens to images, networks and volumes. What happens to
// containers is written down with their records.
type teller interface {
	Say(m events.Message)
}

func say(t teller, kind events.Type, action events.Action, id string, pairs ...string) {
	attr := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			attr[pairs[i]] = pairs[i+1]
		}
	}
	t.Say(events.Message{Type: kind, Action: action, Actor: events.Actor{ID: id, Attributes: attr}})
}

// volumeChanged tells what becomes of a volume.
func volumeChanged(t teller) func(action, name, container string) {
	return func(action, name, container string) {
		say(t, events.VolumeEventType, events.Action(action), name, "driver", "local", "container", container)
	}
}

// networkChanged tells what becomes of a network.
func networkChanged(t teller) func(action, id, name, driver, container string) {
	return func(action, id, name, driver, container string) {
		say(t, events.NetworkEventType, events.Action(action), id, "name", name, "type", driver, "container", container)
	}
}

// toldImages are images of which is told what clients do with them.
type toldImages struct {
	*images
	teller teller
}

func (i toldImages) say(action events.Action, id, name string) {
	say(i.teller, events.ImageEventType, action, id, "name", name)
}

// id returns the id of an image; the reference if there is none.
func (i toldImages) id(ctx context.Context, ref string) string {
	if img, err := i.Inspect(ctx, ref); err == nil {
		return img.ID
	}
	return ref
}

// familiar is a name as people write it.
func familiar(name string) string {
	if r, err := reference.Parse(name); err == nil {
		return r.Familiar()
	}
	return name
}

func (i toldImages) Pull(ctx context.Context, o image.PullOptions, progress func(transfer.Progress)) error {
	err := i.images.Pull(ctx, o, progress)
	if err == nil {
		i.say(events.ActionPull, familiar(o.Ref), strings.Split(familiar(o.Ref), "@")[0])
	}
	return err
}

func (i toldImages) Tag(ctx context.Context, source, target string) error {
	err := i.images.Tag(ctx, source, target)
	if err == nil {
		i.say(events.ActionTag, i.id(ctx, target), familiar(target))
	}
	return err
}

func (i toldImages) Remove(ctx context.Context, ref string, o image.RemoveOptions) ([]imageapi.DeleteResponse, error) {
	id := i.id(ctx, ref)
	gone, err := i.images.Remove(ctx, ref, o)
	i.sayGone(id, gone) // also what went before an error
	return gone, err
}

func (i toldImages) Prune(ctx context.Context, filters map[string][]string) (imageapi.PruneReport, error) {
	r, err := i.images.Prune(ctx, filters)
	i.sayGone("", r.ImagesDeleted)
	return r, err
}

// sayGone tells of names and images that are gone; id is the image's that the
// names were of, where that is known.
func (i toldImages) sayGone(id string, gone []imageapi.DeleteResponse) {
	for _, g := range gone {
		if g.Untagged != "" {
			of := id
			if of == "" {
				of = g.Untagged
			}
			i.say(events.ActionUnTag, of, g.Untagged)
		}
		if g.Deleted != "" {
			i.say(events.ActionDelete, g.Deleted, g.Deleted)
		}
	}
}

// loaded is what a load says of each image; the progress is for people, and
// names it.
const loaded = "Loaded image: "

func (i toldImages) Load(ctx context.Context, archive io.Reader, progress func(transfer.Progress)) error {
	return i.images.Load(ctx, archive, func(p transfer.Progress) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(p.Message), loaded); ok {
			i.say(events.ActionLoad, i.id(ctx, name), name)
		}
		if progress != nil {
			progress(p)
		}
	})
}

func (i toldImages) Import(ctx context.Context, tar io.Reader, o image.ImportOptions) (string, error) {
	id, err := i.images.Import(ctx, tar, o)
	if err == nil {
		i.say(events.ActionImport, id, id)
	}
	return id, err
}

func (i toldImages) Save(ctx context.Context, refs []string, p *ocispec.Platform, w io.Writer) error {
	err := i.images.Save(ctx, refs, p, w)
	if err == nil {
		for _, ref := range refs {
			i.say(events.ActionSave, i.id(ctx, ref), ref)
		}
	}
	return err
}

// toldRegistries are registries of which is told what is pushed to them.
type toldRegistries struct {
	*registry.Service
	teller teller
}

func (r toldRegistries) Push(ctx context.Context, o registry.PushOptions, progress func(transfer.Progress)) error {
	err := r.Service.Push(ctx, o, progress)
	if err == nil {
		name := o.Name
		if o.Tag != "" {
			name += ":" + o.Tag
		}
		say(r.teller, events.ImageEventType, events.ActionPush, name, "name", o.Name)
	}
	return err
}
