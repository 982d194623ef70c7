// Joints from the outputs of heatmaps_*.tflite: posecascade's decoder `soft`. C++17, nothing else needed. Apache-2.0.
#ifndef POSECASCADE_POSE_DECODER_H_
#define POSECASCADE_POSE_DECODER_H_

#include <algorithm>
#include <cmath>
#include <vector>

namespace posecascade {

struct Joint { double x, y, score, visibility; };  // pixels of the crop; the centre of its top left one is (0, 0)

// `heatmaps` and `parts` are (height, width, joints), joints side by side, as the signature gives them. `stride`, and
// `slope` and `offset` ("calibration"), stand in the file's posecascade.json, under "model".
inline std::vector<Joint> decode(const float* heatmaps, const float* parts, int height, int width, int joints,
                                 int stride, double slope = 1, double offset = 0) {
  constexpr int kReach = 6, kRounds = 12;              // cells round the highest one; how often the window moves
  constexpr double kWindow = 2, kFurthest = 1.5;       // cells
  std::vector<Joint> found;
  for (int k = 0; k < joints; ++k) {
    const auto at = [&](const float* maps, int y, int x) { return double(maps[(y * width + x) * joints + k]); };
    int row = 0, column = 0;                           // the highest cell, the first of equal ones
    for (int i = 0; i < height * width; ++i)
      if (at(heatmaps, i / width, i % width) > at(heatmaps, row, column)) row = i / width, column = i % width;
    const int across = std::min({kReach, column, width - 1 - column});  // as far as both sides are on the map
    const int down = std::min({kReach, row, height - 1 - row});
    double dx = 0, dy = 0;                             // from that cell to the mean under the squared map in a window
    for (int round = 0; round < kRounds; ++round) {
      double total = 0, x = 0, y = 0;
      for (int i = -down; i <= down; ++i)
        for (int j = -across; j <= across; ++j) {
          const double value = std::max(at(heatmaps, row + i, column + j), 0.0);
          const double away = std::hypot(j - dx, i - dy) / kWindow;
          const double weight = value * value * std::exp(-0.5 * away * away);
          total += weight, x += weight * j, y += weight * i;
        }
      dx = std::clamp(x / std::max(total, 1e-12), -kFurthest, kFurthest);
      dy = std::clamp(y / std::max(total, 1e-12), -kFurthest, kFurthest);
    }
    const double u = column + dx, v = row + dy;        // on the map, since the window was
    const int left = int(u), top = int(v), right = std::min(left + 1, width - 1), below = std::min(top + 1, height - 1);
    const auto between = [](double a, double b, double share) { return a + (b - a) * share; };
    const double seen = between(between(at(parts, top, left), at(parts, top, right), u - left),
                                between(at(parts, below, left), at(parts, below, right), u - left), v - top);
    double score = std::clamp(at(heatmaps, row, column), 0.0, 1.0);
    if (slope != 1 || offset != 0) {
      const double inside = std::clamp(score, 1e-4, 1 - 1e-4);
      score = 1 / (1 + std::exp(-slope * std::log(inside / (1 - inside)) - offset));
    }
    const double middle = (stride - 1) / 2.0;          // of a cell, in pixels
    found.push_back({u * stride + middle, v * stride + middle, score, std::clamp(seen, 0.0, 1.0)});
  }
  return found;
}

}  // namespace posecascade

#endif  // POSECASCADE_POSE_DECODER_H_
