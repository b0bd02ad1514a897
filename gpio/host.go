package gpio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"periph.io/x/conn/v3/driver/driverreg"
	pgpio "periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/host/v3/gpioioctl"
	"periph.io/x/host/v3/sysfs"
)

// ErrNoGPIO means that the machine has no pins, like most PCs.
var ErrNoGPIO = errors.New("this machine has no GPIO (no /dev/gpiochip*); remove preset, [[button]], and [[led]], or set simulate = true in [gpio]")

// Host provides pins and ports. Opening neither configures a line nor changes its level. Errors are
// one sentence with advice.
type Host interface {
	// Pin returns the line with this canonical name.
	Pin(name string) (pgpio.PinIO, error)
	// Port opens an SPI port such as "SPI0.0".
	Port(name string) (spi.PortCloser, error)
}

// Hardware is the real machine, accessed by the kernel's character devices.
type Hardware struct{}

// Pin implements Host.
func (Hardware) Pin(name string) (pgpio.PinIO, error) {
	if _, err := driverreg.Init(); err != nil {
		return nil, fmt.Errorf("find GPIO chips: %w", err)
	}
	if len(gpioioctl.Chips) == 0 {
		return nil, noChips()
	}
	chips := make([]chip, len(gpioioctl.Chips))
	for i, c := range gpioioctl.Chips {
		chips[i] = c
	}
	line := findLine(chips, name)
	if line == nil {
		return nil, fmt.Errorf("no line %s on this machine; gpioinfo(1) lists the lines", name)
	}
	return line, nil
}

// noChips distinguishes a machine without GPIO from missing permissions.
func noChips() error {
	found, _ := filepath.Glob("/dev/gpiochip*") // the pattern is well-formed
	if len(found) == 0 {
		return ErrNoGPIO
	}
	return fmt.Errorf("%s cannot be opened: add the user of lintod to the group gpio", found[0])
}

// chip is the part of a gpioioctl.GPIOChip that findLine uses.
type chip interface {
	Name() string
	Label() string
	LineCount() int
	ByName(name string) *gpioioctl.GPIOLine
	ByNumber(number int) *gpioioctl.GPIOLine
}

// findLine finds a line by its canonical name. GPIO17 is line 17 of the chip of the Raspberry Pi's
// header, which is identified by its label: on a Pi 5 it has been gpiochip4 and gpiochip0. On other
// machines the name is the kernel's.
func findLine(chips []chip, name string) *gpioioctl.GPIOLine {
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "GPIO")); err == nil {
		if c := headerChip(chips); c != nil && n < c.LineCount() {
			return c.ByNumber(n)
		}
	}
	for _, c := range chips {
		// periph adds a prefix to a name that two chips have.
		for _, candidate := range []string{name, c.Name() + "-" + name} {
			if line := c.ByName(candidate); line != nil {
				return line
			}
		}
	}
	return nil
}

func headerChip(chips []chip) chip {
	for _, label := range []string{"pinctrl-rp1", "pinctrl-bcm"} {
		for _, c := range chips {
			if strings.HasPrefix(c.Label(), label) {
				return c
			}
		}
	}
	return nil
}

// Port implements Host.
func (Hardware) Port(name string) (spi.PortCloser, error) {
	bus, cs, err := ParsePort(name)
	if err != nil {
		return nil, err
	}
	path := fmt.Sprintf("/dev/spidev%d.%d", bus, cs)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist) && errors.Is(noChips(), ErrNoGPIO):
		return nil, ErrNoGPIO
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s is missing: enable SPI, on a Raspberry Pi with dtparam=spi=on in config.txt", path)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("no permission to open %s: add the user of lintod to the group spi", path)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if _, err := driverreg.Init(); err != nil { // gets the maximum size of a transfer
		return nil, fmt.Errorf("find SPI: %w", err)
	}
	return sysfs.NewSPI(bus, cs)
}

var portName = regexp.MustCompile(`^(?:SPI|/dev/spidev)([0-9]{1,2})\.([0-9])$`)

// ParsePort parses the name of an SPI port: its bus and its chip select.
func ParsePort(name string) (bus, cs int, err error) {
	m := portName.FindStringSubmatch(name)
	if m == nil {
		return 0, 0, fmt.Errorf("invalid SPI port %q; want for example \"SPI0.0\"", name)
	}
	bus, _ = strconv.Atoi(m[1])
	cs, _ = strconv.Atoi(m[2])
	return bus, cs, nil
}

// output is an output line. It never reads the pin back: with periph that would make it an input.
type output struct {
	pin    pgpio.PinIO
	invert bool
}

// openOutput claims a line and sets it.
func openOutput(h Host, p Pin, invert, on bool) (*output, error) {
	pin, err := h.Pin(p.name())
	if err != nil {
		return nil, err
	}
	o := &output{pin: pin, invert: invert}
	if err := o.set(on); err != nil {
		Release(pin)
		return nil, lineError(p.name(), pin, err)
	}
	return o, nil
}

func (o *output) set(on bool) error { return o.pin.Out(pgpio.Level(on != o.invert)) }

// Release the line. Otherwise periph treats a failed claim as successful.
func Release(pin pgpio.PinIO) {
	if c, ok := pin.(interface{ Close() }); ok {
		c.Close()
	}
}

// lineError returns a sentence for the kernel's error of a line, of which periph keeps only the
// text.
func lineError(name string, pin pgpio.PinIO, err error) error {
	if !strings.Contains(err.Error(), "busy") {
		return fmt.Errorf("set up %s: %w", name, err)
	}
	owner := "another program; see gpioinfo(1)"
	if c, ok := pin.(interface{ Consumer() string }); ok && c.Consumer() != "" {
		owner = c.Consumer()
	}
	return fmt.Errorf("%s is in use by %s: choose another pin, or stop that program", name, owner)
}
