// Runs tests/device_agents/scenario.py under MicroPython: node run.mjs ROOT FILE... (paths below ROOT).
// Prints the scenario's lines, then "# mem_alloc core <bytes> end <bytes>".
import { loadMicroPython } from "@micropython/micropython-webassembly-pyscript/micropython.mjs";
import fs from "node:fs";
import path from "node:path";

const [root, ...files] = process.argv.slice(2);
const mp = await loadMicroPython({ stdout: (line) => console.log(line), linebuffer: true, heapsize: 1 << 20 });
for (const file of files) {
  let folder = "";
  for (const part of path.dirname(file).split("/")) {
    folder += "/" + part;
    if (!mp.FS.analyzePath(folder).exists) mp.FS.mkdir(folder);
  }
  mp.FS.writeFile("/" + file, fs.readFileSync(path.join(root, file)));
}
try {
  mp.runPython(`
import gc, sys
assert sys.implementation.name == "micropython"
sys.path.append("/")
gc.collect()
_empty = gc.mem_alloc()
from device_agents import agent, battery, car, lamp, panel, protocol
gc.collect()
_core = gc.mem_alloc() - _empty
from tests.device_agents.scenario import main
main()
gc.collect()
print("# mem_alloc core", _core, "end", gc.mem_alloc() - _empty)
`);
} catch (err) {
  console.error(err.message); // Python's traceback, without the JavaScript around it
  process.exit(1);
}
