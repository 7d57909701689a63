package devfilter

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

func rule(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	r := specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Access: access}
	if major != Any {
		r.Major = &major
	}
	if minor != Any {
		r.Minor = &minor
	}
	return r
}

func TestParse(t *testing.T) {
	denyAll, allowAll := rule(false, "a", Any, Any, "rwm"), rule(true, "", Any, Any, "")
	tests := []struct {
		name  string
		rules []specs.LinuxDeviceCgroup
		want  string
	}{
		{"none", nil, "deny a *:* rwm"},
		{"privileged", []specs.LinuxDeviceCgroup{rule(true, "c", 1, 3, "r"), allowAll}, "allow a *:* rwm"},
		{"usual", []specs.LinuxDeviceCgroup{denyAll, rule(true, "c", 1, 3, "wr"), rule(true, "b", 8, Any, "m")}, "deny a *:* rwm; allow c 1:3 rw; allow b 8:* m"},
		{"the last word covers", []specs.LinuxDeviceCgroup{rule(true, "c", 1, 3, "r"), rule(false, "c", 1, Any, "rw")}, "deny a *:* rwm; deny c 1:* rw"},
		{"any type with a number resets nothing", []specs.LinuxDeviceCgroup{rule(true, "a", 10, 229, "rwm")}, "deny a *:* rwm; allow a 10:229 rwm"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse(tt.rules)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, p.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, bad := range []specs.LinuxDeviceCgroup{
		rule(true, "x", 1, 1, "r"), rule(true, "cc", 1, 1, "r"), rule(true, "c", -2, 1, "r"), rule(true, "c", 1, 1<<32, "r"),
	} {
		if p, err := Parse([]specs.LinuxDeviceCgroup{bad}); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%+v: got %v, %v; want an error of class invalid", bad, p, err)
		}
	}
}

func TestV1(t *testing.T) {
	tests := []struct {
		name  string
		rules []specs.LinuxDeviceCgroup
		want  []Line // nil: not possible
	}{
		{"none", nil, []Line{{"devices.deny", "a"}}},
		{"allow all", []specs.LinuxDeviceCgroup{rule(true, "a", Any, Any, "")}, []Line{{"devices.allow", "a"}}},
		{
			"list",
			[]specs.LinuxDeviceCgroup{rule(true, "c", 1, 3, "rwm"), rule(true, "c", 136, Any, "rw")},
			[]Line{{"devices.deny", "a"}, {"devices.allow", "c 1:3 rwm"}, {"devices.allow", "c 136:* rw"}},
		},
		{
			"all but one",
			[]specs.LinuxDeviceCgroup{rule(true, "a", Any, Any, ""), rule(false, "b", 8, 0, "w")},
			[]Line{{"devices.allow", "a"}, {"devices.deny", "b 8:0 w"}},
		},
		{
			"a part taken back",
			[]specs.LinuxDeviceCgroup{rule(true, "c", 1, 3, "rwm"), rule(false, "c", 1, 3, "w")},
			[]Line{{"devices.deny", "a"}, {"devices.allow", "c 1:3 rm"}},
		},
		{
			"any type with a number",
			[]specs.LinuxDeviceCgroup{rule(true, "a", 10, 229, "rwm")},
			[]Line{{"devices.deny", "a"}, {"devices.allow", "b 10:229 rwm"}, {"devices.allow", "c 10:229 rwm"}},
		},
		{"a hole in a wildcard", []specs.LinuxDeviceCgroup{rule(true, "c", 1, Any, "rwm"), rule(false, "c", 1, 3, "w")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse(tt.rules)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.V1()
			if (tt.want == nil) != errdefs.Is(err, errdefs.NotImplemented) {
				t.Fatalf("got %v, %v", got, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// run interprets the instructions that Compile uses.
func run(t *testing.T, p Program, device Rule) bool {
	t.Helper()
	typ := map[byte]uint64{'b': typeBlock, 'c': typeChar}[device.Type]
	ctx := map[int16]uint64{0: typ | uint64(device.Access)<<accessBits, 4: uint64(device.Major), 8: uint64(device.Minor)}
	var reg [16]uint64
	for pc, steps := 0, 0; pc < len(p.Insns); pc, steps = pc+1, steps+1 {
		in := p.Insns[pc]
		dst, src, imm := in.Regs&15, in.Regs>>4, uint64(int64(in.Imm))
		switch in.Code {
		case opLoad32:
			reg[dst] = ctx[in.Off]
		case opMovImm:
			reg[dst] = imm
		case opMovReg:
			reg[dst] = reg[src]
		case opAnd:
			reg[dst] &= imm
		case opShift:
			reg[dst] >>= imm
		case opJumpEq:
			if uint32(reg[dst]) == uint32(imm) {
				pc += int(in.Off)
			}
		case opJumpNe:
			if uint32(reg[dst]) != uint32(imm) {
				pc += int(in.Off)
			}
		case opExit:
			return reg[0] == 1
		default:
			t.Fatalf("opcode %#x", in.Code)
		}
	}
	t.Fatal("ran off the end")
	return false
}

// v1Allowed decides as the v1 controller does with the given lines.
func v1Allowed(lines []Line, kind byte, major, minor int64, access Access) bool {
	def := lines[0].File == "devices.allow"
	var excepted Access
	for _, l := range lines[1:] {
		p, _ := Parse([]specs.LinuxDeviceCgroup{lineRule(l.Value)})
		if p.Rules[0].covers(Rule{Type: kind, Major: major, Minor: minor}) {
			excepted |= p.Rules[0].Access
		}
	}
	if def {
		return excepted&access == 0
	}
	return access&^excepted == 0
}

func lineRule(line string) specs.LinuxDeviceCgroup {
	r := specs.LinuxDeviceCgroup{Allow: true, Type: line[:1]}
	var fields [2]int64
	i, star, n := 0, false, int64(0)
	rest := line[2:]
	for k := 0; ; k++ {
		c := rest[k]
		switch {
		case c == '*':
			star = true
		case c >= '0' && c <= '9':
			n = n*10 + int64(c-'0')
		default:
			fields[i] = n
			if star {
				fields[i] = Any
			}
			i, star, n = i+1, false, 0
			if c == ' ' {
				r.Access = rest[k+1:]
				if fields[0] != Any {
					r.Major = &fields[0]
				}
				if fields[1] != Any {
					r.Minor = &fields[1]
				}
				return r
			}
		}
	}
}

// FuzzForms checks that both kernel forms decide as the policy says.
func FuzzForms(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0xff, 0, 0, 1, 2, 3, 4, 5, 6})
	f.Add([]byte("allow and deny, in every order there is"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var rules []specs.LinuxDeviceCgroup
		for ; len(b) >= 3 && len(rules) < 12; b = b[3:] {
			var access []byte
			for i, l := range []byte("rwm") {
				if b[2]>>i&1 != 0 {
					access = append(access, l)
				}
			}
			rules = append(rules, rule(b[0]&1 != 0, string("abc"[int(b[0]>>1)%3]), int64(b[1]&3)-1, int64(b[1]>>2&3)-1, string(access)))
		}
		p, err := Parse(rules)
		if err != nil {
			t.Fatal(err)
		}
		prog := p.Compile()
		lines, v1err := p.V1()
		for _, kind := range []byte("bc") {
			for major := range int64(4) {
				for minor := range int64(4) {
					for access := Access(1); access <= All; access++ {
						want := naive(rules, kind, major, minor, access)
						if got := p.Allowed(kind, major, minor, access); got != want {
							t.Fatalf("%v\n%c %d:%d %v: Allowed says %t", p, kind, major, minor, access, got)
						}
						if got := run(t, prog, Rule{Type: kind, Major: major, Minor: minor, Access: access}); got != want {
							t.Fatalf("%v\n%c %d:%d %v: the program says %t\n%s", p, kind, major, minor, access, got, prog)
						}
						if v1err != nil {
							continue
						}
						if got := v1Allowed(lines, kind, major, minor, access); got != want {
							t.Fatalf("%v\n%c %d:%d %v: v1 says %t\n%v", p, kind, major, minor, access, got, lines)
						}
					}
				}
			}
		}
	})
}

// naive decides rule by rule and bit by bit.
func naive(rules []specs.LinuxDeviceCgroup, kind byte, major, minor int64, access Access) bool {
	allowed := Access(0)
	for _, r := range rules {
		rule, _ := parseRule(r)
		if !rule.covers(Rule{Type: kind, Major: major, Minor: minor}) {
			continue
		}
		if rule.Allow {
			allowed |= rule.Access
		} else {
			allowed &^= rule.Access
		}
	}
	return access&^allowed == 0
}
