import { recall } from "./theme.js";

recall();
