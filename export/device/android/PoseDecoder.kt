// Joints from the outputs of heatmaps_*.tflite: posecascade's decoder `soft`. Plain Kotlin, nothing else. Apache-2.0.
package posecascade

import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min

/** x, y are pixels of the crop; the centre of its top left one is (0, 0). */
data class Joint(val x: Double, val y: Double, val score: Double, val visibility: Double)

/**
 * `decode` takes (height, width, joints) maps, joints side by side, as the signature gives them. `stride`, and `slope`
 * and `offset` ("calibration"), stand in the file's posecascade.json, under "model".
 */
class PoseDecoder(private val height: Int, private val width: Int, private val joints: Int, private val stride: Int,
                  private val slope: Double = 1.0, private val offset: Double = 0.0) {
    private val reach = 6       // cells round the highest one
    private val rounds = 12     // how often the window moves
    private val window = 2.0    // cells
    private val furthest = 1.5  // cells

    fun decode(heatmaps: FloatArray, parts: FloatArray): List<Joint> = List(joints) { k ->
        fun at(maps: FloatArray, row: Int, column: Int) = maps[(row * width + column) * joints + k].toDouble()
        fun between(a: Double, b: Double, share: Double) = a + (b - a) * share
        var row = 0  // the highest cell, the first of equal ones
        var column = 0
        for (i in 0 until height * width) {
            if (at(heatmaps, i / width, i % width) > at(heatmaps, row, column)) { row = i / width; column = i % width }
        }
        val across = min(reach, min(column, width - 1 - column))  // as far as both sides are on the map
        val down = min(reach, min(row, height - 1 - row))
        var dx = 0.0  // from that cell to the mean under the squared map in a window
        var dy = 0.0
        repeat(rounds) {
            var total = 0.0
            var x = 0.0
            var y = 0.0
            for (i in -down..down) for (j in -across..across) {
                val value = max(at(heatmaps, row + i, column + j), 0.0)
                val away = ((j - dx) * (j - dx) + (i - dy) * (i - dy)) / (window * window)
                val weight = value * value * exp(-0.5 * away)
                total += weight
                x += weight * j
                y += weight * i
            }
            dx = (x / max(total, 1e-12)).coerceIn(-furthest, furthest)
            dy = (y / max(total, 1e-12)).coerceIn(-furthest, furthest)
        }
        val u = column + dx  // on the map, since the window was
        val v = row + dy
        val left = u.toInt()
        val top = v.toInt()
        val right = min(left + 1, width - 1)
        val below = min(top + 1, height - 1)
        val seen = between(between(at(parts, top, left), at(parts, top, right), u - left),
            between(at(parts, below, left), at(parts, below, right), u - left), v - top)
        var score = at(heatmaps, row, column).coerceIn(0.0, 1.0)
        if (slope != 1.0 || offset != 0.0) {
            val inside = score.coerceIn(1e-4, 1 - 1e-4)
            score = 1 / (1 + exp(-slope * ln(inside / (1 - inside)) - offset))
        }
        val middle = (stride - 1) / 2.0  // of a cell, in pixels
        Joint(u * stride + middle, v * stride + middle, score, seen.coerceIn(0.0, 1.0))
    }
}
