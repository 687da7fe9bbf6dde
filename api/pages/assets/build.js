// The page of a build: as it stands, until it has ended.
import { follow } from "./live.js";

const build = document.getElementById("build");
if (build.dataset.events) follow(build.dataset.events);
