package gpio

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"periph.io/x/host/v3/gpioioctl"
)

// tree creates a file system with these files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const hdmi = " 0 [vc4hdmi        ]: vc4-hdmi - vc4-hdmi\n                      vc4-hdmi\n"

func TestRecognise(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  []string
		why   string
	}{
		{"a PC", nil, nil, ""},
		{"a bare Raspberry Pi", map[string]string{"proc/asound/cards": hdmi, "proc/device-tree/model": "Raspberry Pi 4\x00"}, nil, ""},
		{"AIY Voice HAT", map[string]string{
			"proc/device-tree/hat/product":    "Google AIY Voice HAT\x00",
			"proc/device-tree/hat/product_id": "0x0001\x00",
			"proc/asound/cards":               hdmi + " 1 [sndrpigooglevoi]: RPi-simple - snd_rpi_googlevoicehat_soundcar\n",
		}, []string{"aiy-voice"}, "Google AIY Voice HAT"},
		{"AIY Voice Bonnet, device tree elsewhere", map[string]string{
			"sys/firmware/devicetree/base/hat/product":    "AIY Voice Bonnet\x00",
			"sys/firmware/devicetree/base/hat/product_id": "0x0003\x00",
		}, []string{"aiy-voice-bonnet"}, "AIY Voice Bonnet"},
		{"an unknown HAT", map[string]string{
			"proc/device-tree/hat/product": "Fan HAT\x00", "proc/device-tree/hat/product_id": "0x0001\x00",
		}, nil, ""},
		{"the two boards with one card", map[string]string{
			"proc/asound/cards": hdmi + " 2 [seeed2micvoicec]: seeed-2mic-voic - seeed-2mic-voicecard\n",
		}, []string{"respeaker-2mic", "voice-bonnet"}, "seeed2micvoicec"},
		{"ReSpeaker 4-Mic", map[string]string{
			"proc/asound/cards": " 1 [seeed4micvoicec]: seeed-4mic-voic - seeed-4mic-voicecard\n",
		}, []string{"respeaker-4mic"}, "seeed4micvoicec"},
		{"chip without a card", map[string]string{
			"proc/asound/cards":                  hdmi,
			"sys/bus/i2c/devices/1-003b/name":    "ac108_0\n",
			"sys/bus/i2c/devices/1-0035/name":    "ac108_1\n",
			"sys/bus/i2c/devices/i2c-1/name":     "bcm2835 (i2c@7e804000)\n",
			"sys/bus/i2c/devices/20-001a/name":   "not on the header\n",
			"sys/bus/i2c/devices/1-nonsense/uid": "",
		}, []string{"respeaker-6mic"}, "0x"},
		{"garbage", map[string]string{
			"proc/asound/cards": "\x00\xff[[[", "proc/device-tree/hat/product_id": "many",
		}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, f := range Recognise(tree(t, tt.files)) {
				got = append(got, f.Preset.Name)
				if !strings.Contains(f.Why, tt.why) {
					t.Errorf("%s because of %s", f.Preset.Name, f.Why)
				}
				if _, err := parse(f.TOML()); err != nil {
					t.Errorf("the suggested lines are not a valid configuration: %v", err)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// fakeChip has lines by offset and by name.
type fakeChip struct {
	name, label string
	lines       []*gpioioctl.GPIOLine
	byName      map[string]*gpioioctl.GPIOLine
}

func (c fakeChip) Name() string                           { return c.name }
func (c fakeChip) Label() string                          { return c.label }
func (c fakeChip) LineCount() int                         { return len(c.lines) }
func (c fakeChip) ByName(name string) *gpioioctl.GPIOLine { return c.byName[name] }
func (c fakeChip) ByNumber(n int) *gpioioctl.GPIOLine     { return c.lines[n] }

func newChip(name, label string, n int, names map[string]int) fakeChip {
	c := fakeChip{name: name, label: label, byName: map[string]*gpioioctl.GPIOLine{}}
	for range n {
		c.lines = append(c.lines, &gpioioctl.GPIOLine{})
	}
	for name, i := range names {
		c.byName[name] = c.lines[i]
	}
	return c
}

func TestFindLine(t *testing.T) {
	// A Pi 5 has a dozen chips; the header is on the RP1, at any position.
	brcm := newChip("gpiochip10", "gpio-brcmstb@107d508500", 32, map[string]int{"2712_WAKE": 4, "GPIO17": 3})
	rp1 := newChip("gpiochip4", "pinctrl-rp1", 54, map[string]int{"gpiochip4-GPIO17": 17})
	pi3 := newChip("gpiochip0", "pinctrl-bcm2835", 54, map[string]int{"SPI_CE1_N": 7})
	expander := newChip("gpiochip1", "raspberrypi-exp-gpio", 8, map[string]int{"BT_ON": 0})
	sunxi := newChip("gpiochip0", "1c20800.pinctrl", 224, map[string]int{"PA6": 6, "gpiochip0-PG8": 8})
	tests := []struct {
		name  string
		chips []chip
		pin   string
		want  *gpioioctl.GPIOLine
	}{
		{"Pi 5", []chip{brcm, rp1}, "GPIO17", rp1.lines[17]},
		{"Pi 5, other order", []chip{rp1, brcm}, "GPIO17", rp1.lines[17]},
		{"Pi 3, whose kernel calls GPIO7 SPI_CE1_N", []chip{expander, pi3}, "GPIO7", pi3.lines[7]},
		{"by the kernel's name", []chip{expander, pi3}, "BT_ON", expander.lines[0]},
		{"beyond the header", []chip{pi3}, "GPIO54", nil},
		{"no such line", []chip{pi3}, "PA6", nil},
		{"not a Pi", []chip{sunxi}, "PA6", sunxi.lines[6]},
		{"not a Pi, name on two chips", []chip{sunxi}, "PG8", sunxi.lines[8]},
		{"not a Pi, number", []chip{sunxi}, "GPIO17", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := findLine(tt.chips, tt.pin); got != tt.want {
				t.Error("found another line")
			}
		})
	}
}

func TestHardwareReportsWhatIsMissing(t *testing.T) {
	if _, err := os.Stat("/dev/gpiochip0"); err == nil {
		t.Skip("this machine has GPIO; the test is for those without")
	}
	if _, err := (Hardware{}).Pin("GPIO17"); err != ErrNoGPIO {
		t.Errorf("pin: %v", err)
	}
	if _, err := (Hardware{}).Port("SPI7.0"); err != ErrNoGPIO {
		t.Errorf("port: %v", err)
	}
	if _, err := (Hardware{}).Port("parallel"); err == nil {
		t.Error("parallel is an SPI port")
	}
}
