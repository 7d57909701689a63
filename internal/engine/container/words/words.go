// Package words makes up names for containers that were given none, and says in
// words how one is.
package words

import (
	"math/rand/v2"
	"strings"
)

// Name makes up a name that people can say: a quality and a navigator,
// shipwright or bridge builder, who carried things before there were containers.
func Name() string {
	a, b := adjectives(), surnames()
	return a[rand.IntN(len(a))] + "_" + b[rand.IntN(len(b))]
}

func adjectives() []string {
	return strings.Fields(`able agile airy alert amber ample ardent artful astute balmy bold brave breezy bright brisk buoyant calm candid
		careful cheery civil clear clever cosy crisp curious daring deft dapper eager early easy elated even fair famed fearless festive fleet
		fluent fond frank free fresh gentle genial glad golden grand handy happy hardy hearty honest hopeful humble ideal jaunty jolly jovial
		keen kind laden lasting lively loyal lucid lucky mellow merry mighty mild modest neat nimble noble open patient placid playful plucky
		polite proud prudent quick quiet rapid ready robust rosy rustic sage seaworthy serene sharp shipshape silent silver sincere smart
		snug sober solid spirited spry stable staunch steady stout subtle sunny sure swift tender thrifty tidy tireless trim true trusty
		upbeat upright valiant vital vivid warm watchful wise witty worthy zesty`)
}

func surnames() []string {
	return strings.Fields(`amundsen andree baffin barents bass bering blake bougainville brunel bylot cabot cabral cano cartier champlain
		chapman cook cousteau dampier darby davis diaz drake dufour duyfken eads eiffel ellet ericson eriksson flinders franklin frobisher
		fulton gama grenfell griffiths hanno hawkins hudson humboldt jansz johnson kotzebue laing lander laperouse leif lewis lopez magellan
		mackenzie maillart malaspina maury mclean mcclure menai mendana nansen nares nordenskjold palliser park parry peary perronet piri
		polo pytheas quiros rae rennie roebling ross saris scoresby shackleton slocum smeaton stark steers stephenson stevenson sverdrup
		tasman telford torres tupaia vancouver vespucci vizcaino wallis watt weddell wilkes worsley wrangel xia zarco zheng`)
}
