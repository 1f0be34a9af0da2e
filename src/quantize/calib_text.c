/* quantize/calib_text.c - the text; written for this purpose, so that it may be copied freely. */
#include "quantize/calib_text.h"

/* clang-format off */
static const char *const paragraphs[] = {
    "The harbour woke before the town did. Gulls argued over the fish boxes, a winch complained, "
    "and the first ferry of the day backed slowly away from the quay with its lights still "
    "on. Marta counted the passengers from the window of the ticket office: eleven, two "
    "of them asleep on their feet. She wrote the number in the book, closed the shutter "
    "and put the kettle on the small electric plate.\n\n",
    "Nobody had asked her to keep the book. The company had machines for that now, and "
    "a screen in the head office showed every ticket the moment it was sold. But machines "
    "forgot things when the power failed, and the power failed here about once a month, "
    "usually in November, when the storms came over the breakwater and salt got into everything.\n"
    "\n",
    "\"You are early,\" said Piet, who mended nets and opinions in equal measure.\n\"You "
    "are late,\" she answered. \"The tide has been waiting for you since five.\"\n\"Then "
    "it has learned patience, which is more than I can say for my daughter. She wants "
    "me to buy a telephone that talks back.\"\n\"Would that be so bad?\"\n\"I already "
    "have a wife.\"\n\n",
    "The kettle clicked. They drank their tea standing, looking at the grey line where "
    "the water met the sky, and did not talk about the letter that lay unopened between "
    "them on the desk.\n\n",
    "# How bread rises\n\n",
    "Bread dough is a network of protein strands that traps gas. When flour meets water, "
    "two proteins, glutenin and gliadin, join into gluten. Kneading lines the strands "
    "up; resting lets them relax. Yeast, a single-celled fungus, feeds on the sugars that "
    "enzymes free from starch, and gives off carbon dioxide and a little alcohol. The "
    "gas collects in thousands of tiny bubbles. In the oven three things happen one after "
    "the other: the gas expands, the yeast works faster until it dies at about 55 °C, "
    "and finally, between 70 and 90 °C, the starch swells and the proteins set, so that "
    "the loaf keeps its shape when the gas has gone.\n\n",
    "A simple recipe for one loaf:\n\n",
    "1. Mix 500 g of flour, 350 g of lukewarm water, 10 g of salt and 5 g of dried yeast.\n2. "
    "Knead for ten minutes, until a piece of dough can be stretched so thin that light "
    "shines through.\n3. Let it rise in a covered bowl for ninety minutes, or overnight "
    "in the refrigerator.\n4. Shape it, put it in a tin, and wait until it has grown by "
    "half.\n5. Bake for 35 minutes at 220 °C. The loaf is done when it sounds hollow "
    "underneath.\n\n",
    "If the crumb is dense, the dough was probably too cold or too dry. If it tastes flat, "
    "somebody forgot the salt.\n\n",
    "def running_mean(values, window):\n    \"\"\"Return the mean of each run of `window` "
    "neighbours.\"\"\"\n    if window <= 0:\n        raise ValueError(\"window must be "
    "positive, got %r\" % window)\n    total, out = 0.0, []\n    for i, value in enumerate(values)"
    ":\n        total += value\n        if i >= window:\n            total -= values[i "
    "- window]\n        if i >= window - 1:\n            out.append(total / window)\n "
    "   return out\n\n",
    "class Account:\n    def __init__(self, owner, balance=0):\n        self.owner = owner\n "
    "       self.balance = balance\n        self.history = []\n\n",
    "    def deposit(self, amount):\n        if amount <= 0:\n            raise ValueError(\"a "
    "deposit must be positive\")\n        self.balance += amount\n        self.history.append((\"d"
    "eposit\", amount))\n\n",
    "    def withdraw(self, amount):\n        if amount > self.balance:\n            raise "
    "ValueError(\"not enough money: have %d, want %d\" % (self.balance, amount))\n    "
    "    self.balance -= amount\n        self.history.append((\"withdraw\", amount))\n\n",
    "#include <stdio.h>\n#include <stdlib.h>\n\n",
    "/* Reads numbers from standard input and prints the largest. */\nint main(void) {\n "
    "   double x, best = 0;\n    int n = 0;\n    while (scanf(\"%lf\", &x) == 1) {\n  "
    "      if (n == 0 || x > best) best = x;\n        n++;\n    }\n    if (n == 0) {\n "
    "       fprintf(stderr, \"no numbers given\\n\");\n        return EXIT_FAILURE;\n "
    "   }\n    printf(\"%d numbers, largest %g\\n\", n, best);\n    return 0;\n}\n\n",
    "SELECT c.name, COUNT(o.id) AS orders, SUM(o.total) AS revenue\nFROM customers AS "
    "c\nLEFT JOIN orders AS o ON o.customer_id = c.id AND o.created_at >= '2024-01-01'\nGROUP "
    "BY c.name\nHAVING SUM(o.total) > 1000\nORDER BY revenue DESC\nLIMIT 20;\n\n",
    "{\"id\": 4711, \"name\": \"Blue lamp\", \"price\": 39.9, \"tags\": [\"light\", \"desk\"], "
    "\"stock\": {\"north\": 12, \"south\": 0}, \"discontinued\": false}\n\n",
    "function debounce(fn, wait) {\n  let timer = null;\n  return (...args) => {\n    "
    "clearTimeout(timer);\n    timer = setTimeout(() => fn(...args), wait);\n  };\n}\n\n",
    "$ git log --oneline | head -3\n9f3c2ab fix the off-by-one in the parser\n77d01e4 "
    "add a test for empty input\nc0ffee1 first version\n$ make test\n42 passed, 0 failed\n\n",
    "Question: A train leaves the station at 14:20 and travels 210 kilometres at an average "
    "speed of 84 kilometres an hour. When does it arrive?\nAnswer: 210 / 84 = 2.5 hours, "
    "which is 2 hours and 30 minutes. 14:20 plus 2:30 is 16:50. The train arrives at 16:50.\n\n",
    "Question: If 3x + 7 = 25, what is x?\nAnswer: Subtract 7 from both sides: 3x = 18. "
    "Divide by 3: x = 6. Check: 3 * 6 + 7 = 25.\n\n",
    "Question: Which is larger, 7/9 or 10/13?\nAnswer: Cross-multiply: 7 * 13 = 91 and "
    "10 * 9 = 90. Since 91 > 90, the fraction 7/9 is larger.\n\n",
    "Question: What is the derivative of f(x) = x^3 - 4x^2 + 2x - 1?\nAnswer: f'(x) = "
    "3x^2 - 8x + 2.\n\n",
    "The committee met on Tuesday, 4 March, with nine of its eleven members present. The "
    "minutes of the previous meeting were approved without change. The treasurer reported "
    "an income of 18,450 euros and expenses of 17,912 euros for the last quarter; the "
    "surplus of 538 euros goes to the repair fund. It was decided by seven votes to two "
    "that the playground will be rebuilt this summer. Ms Okafor will ask three firms for "
    "offers before the end of April. The next meeting is on 1 April, which several members "
    "believed to be a joke. It is not.\n\n",
    "Dear Dr Lindqvist,\n\n",
    "thank you for sending the second version of your manuscript. Both reviewers find "
    "that the new measurements answer their main objections, and I agree with them. Two "
    "points remain. First, the temperature correction in equation (4) assumes that the "
    "sensor is in equilibrium with its surroundings; at the flow rates given in table "
    "2 this holds to about one per cent, and a sentence saying so would help the reader. "
    "Second, figure 3 shows error bars whose meaning is explained nowhere. Please return "
    "the final version within four weeks.\n\n",
    "With kind regards,\nthe editors\n\n",
    "Once upon a time there was a clock that did not want to strike. It lived in the tower "
    "of a small town between two rivers, and every hour, when the hammer rose, it held "
    "its breath. The townspeople noticed, of course. The baker burned his rolls, the school "
    "began when the teacher felt like it, and the stationmaster, who was a precise man, "
    "began to carry a rooster under his arm. At last the mayor climbed the two hundred "
    "and twelve steps herself. \"Why are you silent?\" she asked. \"Because every time "
    "I speak,\" said the clock, \"something ends.\" The mayor thought about this for a "
    "while. She had a cold and the wind was strong. \"That is true,\" she said. \"But "
    "if nothing ends, nobody goes home for supper.\" The clock had never considered supper. "
    "It struck seven, carefully, and down in the streets the lamps came on.\n\n",
    "Der Zug nach Hamburg fährt heute von Gleis neun. Bitte beachten Sie, dass der Speisewagen "
    "geschlossen ist. Wegen Bauarbeiten verspätet sich die Ankunft voraussichtlich um "
    "zwanzig Minuten.\n\n",
    "La bibliothèque sera fermée du 24 décembre au 2 janvier. Les livres empruntés "
    "peuvent être rendus dans la boîte située à gauche de l'entrée principale.\n\n",
    "El mercado abre los sábados a las ocho de la mañana. Hay fruta, queso, pan recién "
    "hecho y, si llueve, muchos paraguas.\n\n",
    "今日はとても天気がいいので、公園を散歩しました。桜がきれいでした。\n\n",
    "我们明天早上九点在车站见面，请不要迟到。\n\n",
    "Погода сегодня холодная, но солнечная. Вечером "
    "мы пойдём в театр.\n\n",
    "User: My laptop is slow when I open many browser tabs. What can I do?\nAssistant: "
    "The most common cause is memory: each tab keeps its page in memory, and when there "
    "is no room left the system begins to write memory to the disk. You can try these "
    "steps, from easy to hard:\n- Close tabs that you do not need, or let the browser "
    "put them to sleep. Most browsers have a setting for this.\n- Look at the task manager "
    "of the browser to find a page that uses much memory or processor time.\n- Remove "
    "extensions that you do not use. Each one runs in every tab.\n- Restart the computer "
    "if it has not been restarted for weeks.\n- If nothing helps, more memory is usually "
    "the cheapest improvement: going from 8 to 16 gigabytes makes a large difference.\n\n",
    "User: And how do I find out how much memory I have?\nAssistant: On Windows press "
    "Ctrl+Shift+Esc and choose \"Performance\", then \"Memory\". On a Mac open the Apple "
    "menu and choose \"About This Mac\". On Linux the command `free -h` prints it.\n\n",
    "User: Write a haiku about autumn rain.\nAssistant: Rain counts the dry leaves,\none "
    "by one, then all at once.\nThe gutter applauds.\n\n",
    "User: Explain photosynthesis to a ten-year-old.\nAssistant: Plants make their own "
    "food out of air, water and sunlight. They drink water through their roots and breathe "
    "in a gas called carbon dioxide through tiny holes in their leaves. Inside the leaves "
    "is a green stuff called chlorophyll that catches sunlight, a bit like a solar panel. "
    "With the energy of the light the plant turns water and carbon dioxide into sugar, "
    "which is its food, and it gives away what is left over: oxygen, the gas that you "
    "and I need for breathing. So every time you sit under a tree you are sitting next "
    "to a very quiet kitchen.\n\n",
    "The theory of plate tectonics says that the outer shell of the Earth is broken into "
    "plates that move over a hotter, softer layer below. Where plates part, as along the "
    "ridge in the middle of the Atlantic, new crust forms. Where they meet, one dives "
    "under the other, and earthquakes and volcanoes follow the line of contact. The plates "
    "move a few centimetres a year, about as fast as fingernails grow. The evidence came "
    "from many sides: coastlines that fit together, the same fossils on both sides of "
    "an ocean, stripes of magnetism on the sea floor that record how the field of the "
    "Earth has turned over, and finally direct measurements by satellite.\n\n",
    "In economics, the price of a good is said to be in equilibrium when the amount that "
    "buyers want equals the amount that sellers offer. If the price is higher, unsold "
    "goods pile up and sellers lower it; if it is lower, shelves are empty and sellers "
    "raise it. This simple picture leaves out a great deal, such as monopolies, taxes, "
    "habits, fear and advertising, but it explains why umbrellas are dearer when it rains.\n\n",
    "| city | population | area (km²) | founded |\n| --- | ---: | ---: | --- |\n| Alder "
    "| 48,210 | 61.4 | 1342 |\n| Brook | 7,905 | 12.0 | 1871 |\n| Cedar | 512,377 | 233.8 "
    "| 1204 |\n\n",
    "Abstract. We study how the order of training examples changes what a small network "
    "learns first. With random order, frequent patterns are learnt before rare ones; with "
    "examples sorted from easy to hard, the difference nearly vanishes after the first "
    "thousand steps. We find no lasting effect on accuracy (91.3 % against 91.1 %, five "
    "seeds each), but a clear one on confidence: sorted training gives better calibrated "
    "probabilities. Code and data are available.\n\n",
    "The patient, a 54-year-old woman, presented with a three-day history of fever and "
    "cough. On examination her temperature was 38.6 °C, pulse 96, blood pressure 128/82, "
    "oxygen saturation 95 % on room air. Crackles were heard over the right lower lobe. "
    "A chest radiograph confirmed consolidation. She was treated with oral antibiotics "
    "for seven days and recovered fully.\n\n",
    "Section 4.2 Termination. Either party may end this agreement by giving the other "
    "thirty (30) days' written notice. Upon termination the licensee shall destroy all "
    "copies of the software in its possession and certify in writing that it has done "
    "so. Sections 5, 7 and 9 survive termination.\n\n",
    "To be a good listener is harder than to be a good speaker. A speaker needs only a "
    "subject; a listener needs patience, curiosity and the ability to leave his own stories "
    "at home. Most of us, when another person talks, are loading the next sentence like "
    "an archer, waiting for a gap to shoot into. Try, for one evening, to ask three questions "
    "for every thing you tell. You will learn more than you expected, and somebody will "
    "go home believing that you are the most interesting person in the room.\n\n",
    "The match ended two all. Vega scored after eleven minutes with a header from a corner, "
    "and again just before half-time, when the goalkeeper slipped on the wet grass. In "
    "the second half the visitors changed to three at the back, and it worked: Ndiaye "
    "pulled one back in the 58th minute, and with almost the last kick of the game a long "
    "free kick bounced once, twice, and in.\n\n",
    "Warning: disconnect the machine from the mains before opening the cover. Never touch "
    "the blades. Keep children and pets away. If the red light blinks three times, the "
    "water tank is empty; if it blinks continuously, contact the service.\n\n",
    "x = 0.1 + 0.2 prints 0.30000000000000004 because neither 0.1 nor 0.2 can be written "
    "exactly with a finite number of binary digits. 2^10 = 1024, 2^20 = 1,048,576 and "
    "2^30 = 1,073,741,824. The first primes are 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31 "
    "and 37. Pi is about 3.14159265358979, e about 2.71828182845905.\n\n",
    "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Opening "
    "hours</title></head>\n<body>\n  <h1>Opening hours</h1>\n  <ul>\n    <li>Monday to "
    "Friday: 9:00 to 18:00</li>\n    <li>Saturday: 10:00 to 14:00</li>\n    <li>Sunday: "
    "<em>closed</em></li>\n  </ul>\n  <p>Call us at <a href=\"tel:+000000000\">000 000 "
    "000</a>.</p>\n</body>\n</html>\n\n",
    "When the storm was over, the two of them walked along the beach to see what the sea "
    "had left. There was the usual: rope, bottles, a single shoe, a door. The door was "
    "blue and still had its handle. Jonas stood it upright in the sand and opened it with "
    "great ceremony, and his sister walked through and said that it was much warmer on "
    "this side. They left it standing there. For years afterwards people in the village "
    "would say, of somebody who had gone away and not written, that he must have gone "
    "through the blue door.\n\n",
    "Yes. No. Maybe later! Who knows? \"Stop,\" she said; he didn't. It's 5 o'clock, isn't "
    "it? (Probably not.) Well... fine -- have it your way: A, B, or C?\n\n",
    "The quick summary: what we know, we know from many small observations that agree; "
    "what we do not know, we should say plainly; and what nobody can know yet, we should "
    "stop arguing about and go and measure.\n\n",
    "TERMS OF THE RIVERSIDE TOOL LIBRARY\n\n",
    "Version 4, in force from 1 March 2021\n\n",
    "Preamble\n\n",
    "These Terms tell you what you may do with the tools, plans and recordings that the "
    "Library lends, and what the Library owes you in return. They are meant to keep what is "
    "shared available to everybody who comes after you. By taking an item away, or by "
    "passing one on, you declare that you accept them; if you do not accept them, you have "
    "no permission to take, change or pass on any item at all.\n\n",
    "1. Definitions.\n\n",
    "\"Item\" means any tool, drawing, recording, program or other work that carries a "
    "notice of the Library saying that it is lent under these Terms. \"Contributor\" means "
    "each person or legal entity that gives an Item to the Library or adds to one. \"You\" "
    "means the individual or organisation exercising the permissions granted here. A work is "
    "\"based on\" an Item if it contains the Item or a portion of it, whether verbatim, with "
    "modifications, or translated into another language. To \"convey\" means to make copies "
    "available to others, for a fee or free of charge, in any form or medium now known or "
    "later developed.\n\n",
    "2. Grant of rights. Subject to the conditions below, each Contributor grants to You a "
    "perpetual, worldwide, non-exclusive, royalty-free licence to use, reproduce, study, "
    "modify, perform and distribute the Item, and any work based on it, provided that:\n\n",
    "  (a) every copy conspicuously carries the copyright notice, this list of conditions "
    "and the disclaimer of section 6;\n"
    "  (b) a file that You have changed says so prominently, with the date of the change;\n"
    "  (c) nobody to whom You convey the work is charged for the licence itself, although "
    "You may charge for the act of transferring a copy, for warranty or for support; and\n"
    "  (d) where the work is conveyed in object form, the complete corresponding source is "
    "offered on the same medium, or in writing and for at least three years, at no more than "
    "the cost of physically performing the delivery.\n\n",
    "3. Patents. If any Contributor holds a patent claim that is necessarily infringed by "
    "the ordinary use of its contribution alone or combined with the Item, that Contributor "
    "hereby grants You a licence under that claim. Should You begin litigation against "
    "anyone (including a cross-claim or counterclaim in a lawsuit) alleging that the Item "
    "infringes a patent, this grant ends for You on the date such litigation is filed.\n\n",
    "4. Trademarks. Nothing herein permits the use of the names, marks or logos of the "
    "Library except as required for reasonable and customary use in describing the origin of "
    "the Item.\n\n",
    "5. Termination. Your rights end automatically if You fail to comply with any material "
    "term and do not cure the failure within thirty (30) days after becoming aware of it. "
    "Those who received copies or rights from You keep theirs so long as they remain in full "
    "compliance.\n\n",
    "6. NO WARRANTY. UNLESS REQUIRED BY APPLICABLE LAW OR AGREED TO IN WRITING, THE ITEM IS "
    "PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EITHER EXPRESS OR IMPLIED, INCLUDING "
    "BUT NOT LIMITED TO WARRANTIES OF TITLE, MERCHANTABILITY AND FITNESS FOR A PARTICULAR "
    "PURPOSE. THE ENTIRE RISK AS TO ITS QUALITY AND PERFORMANCE LIES WITH YOU. IN NO EVENT "
    "SHALL A CONTRIBUTOR BE LIABLE FOR DAMAGES, WHETHER DIRECT, INDIRECT, INCIDENTAL OR "
    "CONSEQUENTIAL, ARISING OUT OF THE USE OF THE ITEM OR THE INABILITY TO USE IT, EVEN IF "
    "ADVISED OF THE POSSIBILITY OF SUCH DAMAGES.\n\n",
    "7. Miscellaneous. If a provision of these Terms is held to be unenforceable, the "
    "remainder stays in effect and the provision shall be reformed only to the extent "
    "necessary. The Library may publish revised versions from time to time; such versions "
    "will be similar in spirit but may differ in detail to address new concerns. You may "
    "also follow any later version. Disputes are governed by the law of the place where the "
    "Library has its seat, excluding its conflict-of-law rules.\n\n",
    "TIDECALC(1)                     User Commands                     TIDECALC(1)\n\n",
    "NAME\n"
    "       tidecalc - predict the height of the tide at a harbour\n\n",
    "SYNOPSIS\n"
    "       tidecalc [OPTION]... HARBOUR [DATE]\n"
    "       tidecalc --list[=PATTERN]\n"
    "       tidecalc --import FILE...\n\n",
    "DESCRIPTION\n"
    "       tidecalc prints the times of high and low water at HARBOUR on DATE, which\n"
    "       defaults to today.  Harmonic constants are read from the files in\n"
    "       /usr/share/tidecalc, or from the directory named by --data.  If no harbour of\n"
    "       that name exists, the nearest three names are suggested on standard error.\n\n",
    "       Mandatory arguments to long options are mandatory for short options too.\n\n",
    "       -a, --all\n"
    "              do not ignore secondary stations; their heights are interpolated\n\n",
    "       -d, --data=DIR\n"
    "              read constants from DIR instead of the default directory.  This\n"
    "              option may be given more than once; later directories take\n"
    "              precedence over earlier ones\n\n",
    "       -f, --format=WORD\n"
    "              output format: table (the default), csv, json.  With json, each\n"
    "              event is an object with the members \"time\", \"height\" and \"kind\"\n\n",
    "       -n, --days=N\n"
    "              print N consecutive days (1 to 366)\n\n",
    "       -u, --utc\n"
    "              print times in Coordinated Universal Time rather than in the\n"
    "              local time zone; see tzset(3)\n\n",
    "       -q, --quiet\n"
    "              suppress all normal output.  The exit status still tells whether\n"
    "              the harbour is known\n\n",
    "       --help display this help and exit\n\n",
    "       --version\n"
    "              output version information and exit\n\n",
    "EXIT STATUS\n"
    "       0      if OK,\n\n",
    "       1      if minor problems (e.g., a constant is out of date),\n\n",
    "       2      if serious trouble (e.g., cannot access a command-line argument).\n\n",
    "ENVIRONMENT\n"
    "       TIDECALC_DATA\n"
    "              Colon-separated list of directories, searched when --data is not\n"
    "              specified.\n\n",
    "FILES\n"
    "       /etc/tidecalc.conf\n"
    "              System-wide configuration.  Blank lines and lines beginning with\n"
    "              '#' are ignored; all others have the form key = value.\n\n",
    "EXAMPLES\n"
    "       Print tomorrow's tides as comma-separated values and keep a copy:\n\n",
    "              $ tidecalc -f csv Dunmore tomorrow | tee tides.csv\n"
    "              time,height,kind\n"
    "              2021-06-04T03:12,4.1,high\n"
    "              2021-06-04T09:27,0.8,low\n\n",
    "       Find the highest tide of the year, with sort(1) and head(1):\n\n",
    "              $ tidecalc -f csv -n 365 Dunmore | sort -t, -k2 -nr | head -n 1\n\n",
    "BUGS\n"
    "       Heights are wrong by up to 20 cm when the barometric pressure is unusual.\n"
    "       Please report others together with the output of tidecalc --version.\n\n",
    "SEE ALSO\n"
    "       cron(8), date(1), strftime(3), tides(7)\n\n",
    "{\"id\": 4711, \"status\": \"shipped\", \"customer\": {\"name\": \"A. Lindqvist\", "
    "\"email\": \"a.lindqvist@example.org\"}, \"items\": [{\"sku\": \"KB-104\", \"qty\": 2, "
    "\"price\": 39.90}, {\"sku\": \"CBL-USB-C\", \"qty\": 1, \"price\": 7.25}], \"notes\": "
    "null, \"paid\": true}\n\n",
    "SELECT c.name, COUNT(*) AS orders, SUM(o.total) AS revenue\n"
    "FROM customers AS c\n"
    "JOIN orders AS o ON o.customer_id = c.id\n"
    "WHERE o.created_at >= '2021-01-01' AND o.status <> 'cancelled'\n"
    "GROUP BY c.name\n"
    "HAVING SUM(o.total) > 1000\n"
    "ORDER BY revenue DESC\n"
    "LIMIT 10;\n\n",
    "export async function retry(fn, { attempts = 3, delay = 200 } = {}) {\n"
    "  let last;\n"
    "  for (let i = 0; i < attempts; i++) {\n"
    "    try {\n"
    "      return await fn(i);\n"
    "    } catch (err) {\n"
    "      last = err;\n"
    "      await new Promise((done) => setTimeout(done, delay * 2 ** i));\n"
    "    }\n"
    "  }\n"
    "  throw last;\n"
    "}\n\n",
    "$ git log --oneline -3\n"
    "9f3c1ab parser: refuse a trailing comma\n"
    "1d20e77 docs: how to build on a machine without a network\n"
    "0b8a9c4 tests: the clock may go backwards\n"
    "$ make check\n"
    "gcc -O2 -Wall -Wextra -c -o parser.o parser.c\n"
    "parser.c: In function 'next_token':\n"
    "parser.c:88:14: warning: comparison of integer expressions of different signedness: "
    "'int' and 'size_t' [-Wsign-compare]\n"
    "All 214 tests passed (3.2 s).\n\n",
    "User: My train was cancelled and I arrived two hours late. Can I get my money back?\n"
    "Assistant: Often, yes. In many countries a delay of more than one hour entitles you to "
    "part of the fare, and more than two hours to half of it or more. You will need:\n\n",
    "- your ticket or the booking number,\n"
    "- the date and the number of the train,\n"
    "- the form on the railway's website, usually under \"passenger rights\".\n\n",
    "Send it within the time the railway names, commonly three months. If they refuse "
    "without a reason, the national arbitration body will look at the case free of charge.\n\n",
    "User: Write me a haiku about it.\n"
    "Assistant: Rain on the platform,\n"
    "the board flickers: cancelled. Tea\n"
    "cools in paper cups.\n",
};
/* clang-format on */

void oct_calib_text(oct_buf *out) {
    for (unsigned i = 0; i < OCT_COUNT(paragraphs); i++) oct_buf_cstr(out, paragraphs[i]);
}
