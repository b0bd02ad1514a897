package folotoy

import (
	"encoding/json"
	"fmt"
	"math"
)

// Common are the values that updatecommonconfig has set, by name (protocol 2). The
// volume is also a setting of the device. A device that is not a toy needs no
// others, but `lintod status -json` shows what integrations have set.
type Common map[string]float64

const volume = "volume"

// common are the members of updatecommonconfig.
var common = []struct {
	name      string
	low, high float64
	fraction  bool
}{
	{"record_type", 1, 3, false},            // click to record, press and hold, continuous
	{"open_tip_type", 0, 1, false},          // 1 plays a sound at the start
	{"voltage_alarm", 0, 20, true},          // volts
	{"sleep_trigger_time", 0, 86400, false}, // seconds; 0 for never
	{volume, 0, 100, false},                 // percent
	{"volume_control_type", 1, 2, false},    // by the knob, by commands
}

// minSleep is the minimum of sleep_trigger_time, other than 0, in seconds.
const minSleep = 30

// readCommon reads the values of a command. One invalid value rejects all.
func readCommon(c command) (Common, error) {
	set := Common{}
	for _, m := range common {
		raw, there := c.params[m.name]
		if !there || string(raw) == "null" {
			continue
		}
		var n float64
		if json.Unmarshal(raw, &n) != nil || n < m.low || n > m.high || !m.fraction && n != math.Trunc(n) {
			return nil, &fieldError{m.name, fmt.Sprintf("a number from %v to %v", m.low, m.high)}
		}
		if m.name == "sleep_trigger_time" && n > 0 && n < minSleep {
			return nil, &fieldError{m.name, fmt.Sprintf("0, or at least %d", minSleep)}
		}
		set[m.name] = n
	}
	return set, nil
}
