package configs

import (
	"reflect"
	"strings"
	"testing"
)

// Workers divide the machine, unless it is said what each has.
func TestWorkersDivide(t *testing.T) {
	one := Default()
	c, err := Load(Sources{Flags: flags(t, "--workers", "2")})
	if err != nil {
		t.Fatal(err)
	}
	if e := c.Engine; e.Threads != max(1, one.Engine.Threads/2) || e.Slots != slots(e.Threads) ||
		e.KVMemory > max(one.Engine.KVMemory/2, 64*MiB) || c.Cache != one.Cache {
		t.Errorf("%+v of %+v", e, one.Engine)
	}
	c, err = Load(Sources{Flags: flags(t, "--workers", "2", "--threads", "7", "--slots", "9", "--kv-memory", "3GiB")})
	if err != nil {
		t.Fatal(err)
	}
	if e := c.Engine; e.Threads != 7 || e.Slots != 9 || e.KVMemory != 3*GiB {
		t.Errorf("what was said is not kept: %+v", e)
	}
}

func TestWorkersSets(t *testing.T) {
	tests := []struct {
		args string // behind --workers 2
		err  string // "" is none
	}{
		{"--devices=0;1", ""},
		{"--devices=0,1;GPU-8932f937-d72c-4106", ""},
		{"--cpus=0-7;8-15", ""},
		{"--cpus=0,2,4-6; 1023", ""},
		{"--devices=0", "engine.devices: 1 sets for 2 workers"},
		{"--devices=0;1;2", "engine.devices: 3 sets for 2 workers"},
		{"--devices=0;", `engine.devices: set 2, "": not a list of devices`},
		{"--devices=0;1 2", `engine.devices: set 2, "1 2"`},
		{"--cpus=0-7;x", `engine.cpus: set 2, "x": not a list of CPUs`},
		{"--cpus=7-0;1", `engine.cpus: set 1, "7-0"`},
		{"--cpus=0-;1", `engine.cpus: set 1, "0-"`},
		{"--cpus=-1;1", `engine.cpus: set 1, "-1"`},
		{"--cpus=0;1024", "CPU 1024; the last is 1023"},
		{"--cpus=0;99999999999999999999", "not a list of CPUs"},
		{"--engine=inprocess", "engine.workers: it is for engines in processes of their own"},
	}
	for _, tt := range tests {
		_, err := Load(Sources{Flags: flags(t, "--workers=2", tt.args)})
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.err)
		}
	}
	if _, err := Load(Sources{Flags: flags(t, "--engine=inprocess", "--cpus=0")}); err == nil || !strings.Contains(err.Error(), "engine.cpus") {
		t.Errorf("CPUs of no process: %v", err)
	}
	e := Engine{Devices: "0 ; 1,2", CPUs: "0-2;5,4"}
	if got := e.DeviceSets(); !reflect.DeepEqual(got, []string{"0", "1,2"}) {
		t.Errorf("devices %q", got)
	}
	if got, err := e.CPUSets(); err != nil || !reflect.DeepEqual(got, [][]int{{0, 1, 2}, {5, 4}}) {
		t.Errorf("CPUs %v, %v", got, err)
	}
	e = Engine{}
	if got, err := e.CPUSets(); got != nil || err != nil || e.DeviceSets() != nil {
		t.Errorf("of nothing: %v, %v, %q", got, err, e.DeviceSets())
	}
}
